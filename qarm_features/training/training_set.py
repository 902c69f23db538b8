"""Labeled impressions get features as they were at their time, read through the views of the feature store.

In: ``interactions``, and the views of one release and of the log. Out: rows of ``training_rows``, split by time. A row has
only features from strictly before its own time. ::

    user_id  item_id  event_timestamp  label      item_codes  behavior_item_ids  behavior_codes  split
    7        3        12:00            1      ->  [17, 4]     [1, 9]             [3, 8, -1, -1]  train
"""

from __future__ import annotations

from datetime import UTC, datetime

from feast import FeatureStore
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.feature_store.views.feature_views import SERVED, USER_VIEW, Release
from qarm_features.storage.tables import ITEM_COUNTERS, USER_IMPRESSIONS
from qarm_features.training.point_in_time import JOINS

_COUNTERS = ("item_positive_count", "item_impression_count", "user_positive_count", "user_impression_count")


def training_rows(
    interactions: DataFrame,
    *,
    store: FeatureStore,
    release: Release,
    cuts: tuple[datetime, datetime],
    with_impressions: bool = True,
    point_in_time: str = "spark",
) -> DataFrame:
    """Join features to labeled impressions.

    Args:
        interactions: Rows of ``interactions``.
        store: Feature store whose offline store is Spark on Delta.
        release: Release whose codes are read.
        cuts: Moments at which valid and test start.
        with_impressions: Add the user's labeled impressions and the counters if True.
        point_in_time: Join to use, ``spark`` or ``feast``. Both give the same rows.

    Returns:
        Rows of ``training_rows``.
    """
    join = JOINS[point_in_time]
    features = [f"{release.view_name}:rq_codes"]
    if with_impressions:
        features += [f"{table.name}:{name}" for table in (ITEM_COUNTERS, USER_IMPRESSIONS) for name in SERVED[table]]
    features += [f"{USER_VIEW}:behavior_item_ids", f"{USER_VIEW}:behavior_timestamps"]
    rows = join(store, interactions.select("user_id", "item_id", "event_timestamp", "label"), features)
    rows = rows.withColumnRenamed("rq_codes", "item_codes")
    if with_impressions:
        rows = rows.fillna(0, subset=list(_COUNTERS))  # no event before means a count of 0
    sequences = ("behavior", "impression") if with_impressions else ("behavior",)
    hashes = {f"_{name}": F.xxhash64(f"{name}_item_ids") for name in sequences}
    rows = rows.withColumns(hashes).persist(StorageLevel.DISK_ONLY)  # with two sequences a row, it is wide
    codes = _codes_of_the_log(interactions, store, release, point_in_time).persist()
    coded = rows
    for name in sequences:
        sequence_codes = _sequence_codes(rows, codes, name=name, num_levels=release.num_levels)
        coded = coded.join(sequence_codes, on=["user_id", f"_{name}"], how="left")
    valid_from, test_from = cuts
    time = F.col("event_timestamp")
    split = F.when(time < F.lit(valid_from), "train").when(time < F.lit(test_from), "valid").otherwise("test")
    return coded.withColumn("split", split).withColumn("codebook_version", F.lit(release.codebook_version))


def _sequence_codes(rows: DataFrame, codes: DataFrame, *, name: str, num_levels: int) -> DataFrame:
    """Return the codes of every distinct sequence ``<name>_item_ids``, flattened, -1 where an item has no codes.

    The key of a sequence is ``user_id`` and its hash ``_<name>``. It keeps exploded rows small.
    """
    key = ["user_id", f"_{name}"]
    sequences = rows.where(F.col(f"{name}_item_ids").isNotNull()).dropDuplicates(key)
    items = sequences.select(*key, F.posexplode(f"{name}_item_ids").alias("position", "item_id"))
    missing = F.array_repeat(F.lit(-1), num_levels)
    coded = items.join(codes, on="item_id", how="left").select(
        *key, F.struct("position", F.coalesce("rq_codes", missing).alias("codes")).alias("item")
    )
    in_order = F.transform(F.array_sort(F.collect_list("item")), lambda item: item["codes"])
    return coded.groupBy(*key).agg(F.flatten(in_order).alias(f"{name}_codes"))


def _codes_of_the_log(interactions: DataFrame, store: FeatureStore, release: Release, point_in_time: str) -> DataFrame:
    """Read the codes of all items of the log, which are all items that a sequence can hold.

    The items come from the log because Feast cannot join to a DataFrame that is the result of another Feast join.
    """
    items = interactions.select("item_id").distinct()
    entities = items.withColumn("event_timestamp", F.lit(datetime(2100, 1, 1, tzinfo=UTC)))
    return JOINS[point_in_time](store, entities, [f"{release.view_name}:rq_codes"]).drop("event_timestamp")
