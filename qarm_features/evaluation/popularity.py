"""What popularity alone reaches, so that a HitRate is not taken for more than it is.

Popular items are the targets of many co-clicks. An encoder that puts popular items near everything therefore reaches a high
HitRate without a notion of content. In: positives of items before the period. Out: the HitRate of the most popular items,
embeddings to which popularity is added, and for each target the items that are as popular.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.evaluation.co_click_pairs import future_co_clicks
from qarm_features.evaluation.co_clicks import expected_hits
from qarm_features.evaluation.target_ranks import target_ranks
from qarm_features.item_pairs.positives import dense_index
from qarm_features.ranking.data.popularity import popularity_limits

WEIGHTS = (0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3)  # cosine per unit of log(1 + positives)
MATCHED, MATCHED_SHARE = 50, 0.025  # largest number of items that are as popular as a target, and share of all items


def popularity_slices(interactions: DataFrame, *, until: datetime) -> DataFrame:
    """Put every item of the log before a moment into head, torso or tail.

    ``popularity_limits`` says what these are.

    Args:
        interactions: Rows of ``interactions``.
        until: Moment before which impressions are counted.

    Returns:
        ``item_id``, ``slice``, ``positives`` (bigint). New items, which have no impression, have no row.
    """
    past = interactions.where(F.col("event_timestamp") < F.lit(until))
    counts = past.groupBy("item_id").agg(F.count("*").alias("impressions"), F.sum("label").alias("positives"))
    by_count = counts.groupBy("impressions").agg(F.count("*").alias("items"))
    # There is one row per distinct count, at most the square root of twice the impressions.
    histogram: pd.DataFrame = by_count.toPandas()
    head_from, torso_from = popularity_limits(histogram["impressions"].to_numpy(), histogram["items"].to_numpy())
    named = F.when(F.col("impressions") >= head_from, "head").when(F.col("impressions") >= torso_from, "torso")
    return counts.select("item_id", named.otherwise("tail").alias("slice"), "positives")


def popular_hits(positives: DataFrame, pairs: pd.DataFrame, *, k: int) -> np.ndarray:
    """Return the probability that each target is among the k items with the most positives; ties are in random order.

    Args:
        positives: ``positives`` of every item that is ranked.
        pairs: ``positives`` of the target, ``trigger_positives``.
        k: Number of items, at least 1.

    Returns:
        (P,) probabilities in [0, 1]. The trigger itself is not ranked.
    """
    # There is one row per distinct number of positives, at most the square root of twice the positives.
    items: pd.DataFrame = (
        positives.groupBy("positives").agg(F.count("*").alias("items")).orderBy("positives").toPandas()
    )
    counts, above = items["positives"].to_numpy(), items["items"].to_numpy()[::-1].cumsum()[::-1]
    target, trigger = pairs["positives"].to_numpy(), pairs["trigger_positives"].to_numpy()
    place = np.minimum(
        np.searchsorted(counts, target), len(counts) - 1
    )  # a target that is not ranked may lie above all
    more = np.append(above, 0)[place + 1] - (trigger > target)
    tied = items["items"].to_numpy()[place] - (trigger == target)
    return expected_hits(more, tied, k=k)


def with_popularity(embeddings: DataFrame, slices: DataFrame) -> DataFrame:
    """Append log(1 + positives) of the item to each embedding, as ``target_ranks`` reads it.

    Args:
        embeddings: ``item_id``, ``embedding`` (D).
        slices: Slices from ``popularity_slices``.

    Returns:
        ``item_id``, ``embedding`` (D + 1).
    """
    rows = embeddings.select("item_id", "embedding").join(slices, on="item_id", how="left")
    number = F.log1p(F.coalesce("positives", F.lit(0))).cast("float")
    return rows.select("item_id", F.concat("embedding", F.array(number)).alias("embedding"))


def best_popularity_weight(
    interactions: DataFrame, embeddings: DataFrame, *, until: datetime, k: int, max_pairs: int, seed: int
) -> float:
    """Choose the weight of popularity beside the cosine on co-clicks before the period that is measured.

    Args:
        interactions: Rows of ``interactions``.
        embeddings: ``item_id``, ``embedding`` (D) of an encoder that was trained on no co-click.
        until: First moment of the period that is measured.
        k: Number of nearest items in HitRate@k.
        max_pairs: Largest number of co-clicks.
        seed: Seed for sampling them.

    Returns:
        The one of ``WEIGHTS`` with the highest HitRate@k, the smallest of several; 0 if there is no earlier co-click.
    """
    past = interactions.where(F.col("event_timestamp") < F.lit(until))
    moments = interactions.agg(F.min("event_timestamp").alias("first"), F.max("event_timestamp").alias("last"))
    seconds = moments.select(F.unix_seconds("first").alias("first"), F.unix_seconds("last").alias("last")).first()
    if seconds is None or seconds["first"] is None:
        return 0.0
    end = until.timestamp()
    begin = max(end - (seconds["last"] - end), (seconds["first"] + end) / 2)  # as long as the period, or the later half
    since = datetime.fromtimestamp(int(begin), until.tzinfo)
    pairs = future_co_clicks(past, since=since, max_pairs=max_pairs, seed=seed).persist()
    number = pairs.count()
    tried = pairs.withColumn("copy", F.explode(F.sequence(F.lit(0), F.lit(len(WEIGHTS) - 1))))
    tried = tried.withColumn("pair", F.col("pair") + F.col("copy") * number)
    rows = with_popularity(embeddings, popularity_slices(past, until=since))
    none = pairs.select("trigger_item_id", "target_item_id").limit(0)
    ranks = target_ranks(tried, none, rows, popularity_weight=np.repeat(np.array(WEIGHTS, np.float32), number))
    pairs.unpersist()
    hits = np.bincount(ranks.pair // max(number, 1), weights=ranks.rank < k, minlength=len(WEIGHTS))
    return WEIGHTS[int(hits.argmax())]


def matched_items(pairs: DataFrame, positives: DataFrame, *, seed: int) -> DataFrame:
    """Find the items that are nearest in popularity to each target: 50, or 2.5% of all items if those are fewer.

    Args:
        pairs: ``pair``, ``trigger_item_id``, ``target_item_id``.
        positives: ``item_id``, ``positives`` of every item that is ranked.
        seed: Seed of the order among items with as many positives.

    Returns:
        ``pair``, ``item_id``, and ``beaten`` (double), what popularity says of the two: 1 if the item has fewer positives
        than the target, 0.5 if it has as many, else 0. Neither the target nor the trigger of the pair is among its items.
    """
    key = F.struct("positives", F.xxhash64(F.lit(seed), "item_id").alias("draw"), "item_id")
    places = dense_index(positives.select(key.alias("key")), "key", "place").select(
        "key.item_id", "key.positives", "place"
    )
    number = positives.count()
    width = min(MATCHED, max(2, int(MATCHED_SHARE * number)))
    targets = places.select(F.col("item_id").alias("target_item_id"), F.col("positives").alias("of_target"), "place")
    first = F.greatest(F.lit(0), F.least(F.col("place") - width // 2, F.lit(number - 1 - width)))
    window = F.sequence(first, F.least(first + width, F.lit(number - 1)))
    around = pairs.join(targets, on="target_item_id", how="inner").withColumn("place", F.explode(window))
    found = around.join(places, on="place", how="inner")
    others = (F.col("item_id") != F.col("target_item_id")) & (F.col("item_id") != F.col("trigger_item_id"))
    beaten = (F.signum((F.col("of_target") - F.col("positives")).cast("double")) + 1) / 2
    return found.where(others).select("pair", "item_id", beaten.alias("beaten"))
