"""Labelled impressions get their features as they were at that time, read through Feast's offline side.

In: ``interactions``; the views of one release and of behaviour. Out: rows of ``training_rows``, split by time. A row sees
only behaviour strictly before its own moment. ::

    user_id  item_id  event_timestamp  label      item_codes  behavior_item_ids  behavior_codes  split
    7        3        12:00            1      ->  [17, 4]     [1, 9]             [3, 8, -1, -1]  train
"""

from __future__ import annotations

from datetime import UTC, datetime

from feast import FeatureStore
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.feature_store.feature_views import USER_VIEW, Release
from qarm_features.time_split import time_cuts

_SEQUENCE = "sequence"


def training_rows(
    interactions: DataFrame, *, store: FeatureStore, release: Release, valid_share: float, test_share: float
) -> DataFrame:
    """Joins features to labelled impressions.

    Args:
        interactions: Rows of ``interactions``.
        store: The feature store; its offline side is Spark on Delta.
        release: Whose codes are read.
        valid_share: Share of the latest rows but test.
        test_share: Share of the latest rows.

    Returns:
        Rows of ``training_rows``.
    """
    impressions = interactions.select("user_id", "item_id", "event_timestamp", "label")
    features = [f"{release.view_name}:rq_codes", f"{USER_VIEW}:behavior_item_ids"]
    rows = store.get_historical_features(impressions, features).to_spark_df()
    rows = (
        rows.withColumnRenamed("rq_codes", "item_codes")
        .withColumn(_SEQUENCE, F.xxhash64("behavior_item_ids"))
        .persist()
    )
    codes = _behavior_codes(rows, _positive_codes(interactions, store, release), release)
    rows = rows.join(codes, on=["user_id", _SEQUENCE], how="left")
    valid_from, test_from = time_cuts(impressions, valid_share=valid_share, test_share=test_share)
    at = F.col("event_timestamp")
    split = F.when(at < F.lit(valid_from), "train").when(at < F.lit(test_from), "valid").otherwise("test")
    return rows.withColumn("split", split).withColumn("codebook_version", F.lit(release.codebook_version))


def _behavior_codes(rows: DataFrame, codes: DataFrame, release: Release) -> DataFrame:
    """Returns the codes of every behaviour sequence that occurs, flattened, -1 where an item has none."""
    # Keyed by a hash within the user, so that exploded rows do not each carry their whole sequence.
    sequences = rows.where(F.col("behavior_item_ids").isNotNull()).dropDuplicates(["user_id", _SEQUENCE])
    items = sequences.select("user_id", _SEQUENCE, F.posexplode("behavior_item_ids").alias("at", "item_id"))
    missing = F.array_repeat(F.lit(-1), release.num_levels)
    coded = items.join(codes, on="item_id", how="left").select(
        "user_id", _SEQUENCE, F.struct("at", F.coalesce("rq_codes", missing).alias("codes")).alias("item")
    )
    in_order = F.transform(F.array_sort(F.collect_list("item")), lambda item: item["codes"])
    return coded.groupBy("user_id", _SEQUENCE).agg(F.flatten(in_order).alias("behavior_codes"))


def _positive_codes(interactions: DataFrame, store: FeatureStore, release: Release) -> DataFrame:
    """Reads the codes of all items that can stand in a behaviour sequence.

    They are taken from the log: Feast cannot join onto a DataFrame that came from another of its joins.
    """
    items = interactions.where(F.col("label") == 1).select("item_id").distinct()
    entities = items.withColumn("event_timestamp", F.lit(datetime(2100, 1, 1, tzinfo=UTC)))
    return (
        store.get_historical_features(entities, [f"{release.view_name}:rq_codes"]).to_spark_df().drop("event_timestamp")
    )
