"""The items near an item: by the cosine of embeddings, and by the users who liked both.

In: embeddings, and the click log. Out: one row per item with a short list of IDs and values. ::

    item_id  near
    7        {item_ids: [9, 4], values: [0.93, 0.88]}
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.evaluation.co_click_pairs import co_clicks
from qarm_features.quantizers import NearestItems
from qarm_features.settings.codes import NearestItems as NearestItemsSettings


def by_embedding(
    rows: DataFrame, *, settings: NearestItemsSettings, folder: str, seed: int, most: int = 10
) -> DataFrame:
    """Find the items with the highest cosine, exactly up to ``nearest_items.exact_up_to`` items.

    Args:
        rows: ``item_id`` and ``embedding`` (D), unit L2 norm, of the items that are shown.
        settings: Section ``nearest_items`` of the settings; its ``k`` is not used.
        folder: New folder that the driver and every executor can reach, which is read while the result is computed.
        seed: Seed of the approximate search.
        most: Number of items, at least 1.

    Returns:
        ``item_id``, ``by_embedding`` (struct of ``item_ids`` as text and ``values``).
    """
    rows = rows.select("item_id", "embedding")
    estimator = NearestItems(
        k=most, exactUpTo=settings.exact_up_to, numProbes=settings.num_probes, bankPath=folder, seed=seed
    )
    model = estimator.fit(rows)
    values = F.transform("vq_similarities", lambda value: F.round(value.cast("double"), 6))
    return model.transform(rows).select("item_id", _near(F.col("vq_codes"), values).alias("by_embedding"))


def by_co_click(interactions: DataFrame, shown: DataFrame, *, most: int = 10) -> DataFrame:
    """Count how often users liked an item directly before or after another one, at another moment.

    Args:
        interactions: Rows of ``interactions``.
        shown: ``item_id`` of the items that are shown.
        most: Highest number of items.

    Returns:
        ``item_id``, ``by_co_click`` (struct of ``item_ids`` as text and ``values``, the largest counts first).
    """
    pairs = co_clicks(interactions).select("item_id", F.col("trigger_item_id").alias("other"))
    both = pairs.unionByName(pairs.select(F.col("other").alias("item_id"), F.col("item_id").alias("other")))
    ids = shown.select("item_id")
    both = both.join(ids, on="item_id", how="left_semi").join(ids.toDF("other"), on="other", how="left_semi")
    counts = both.groupBy("item_id", "other").agg(F.count("*").alias("count"))
    best = Window.partitionBy("item_id").orderBy(F.desc("count"), "other")
    ranked = counts.withColumn("rank", F.row_number().over(best)).where(F.col("rank") <= most)
    near = F.array_sort(F.collect_list(F.struct("rank", "other", "count")))
    lists = ranked.groupBy("item_id").agg(near.alias("near"))
    values = F.transform("near.count", lambda value: value.cast("double"))
    return lists.select("item_id", _near(F.col("near.other"), values).alias("by_co_click"))


def _near(item_ids: Column, values: Column) -> Column:
    return F.struct(F.transform(item_ids, lambda one: one.cast("string")).alias("item_ids"), values.alias("values"))
