"""The click log becomes behavior sequences, with one row for every moment at which a user's sequence changed.

In: ``interactions``. Out: ``user_behavior``. The row of a moment gets a timestamp one microsecond later. Feast's
point-in-time join takes rows at or before the requested time, and so sees only behavior strictly before it. ::

    user_id  item_id  event_timestamp  label      user_id  behavior_item_ids  event_timestamp
    7        1        10:00            1      ->  7        [1]                10:00:00.000001
    7        2        11:00            0          7        [1, 3]             12:00:00.000001
    7        3        12:00            1
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.storage.moments import in_moment


def user_behavior(interactions: DataFrame, *, max_length: int) -> DataFrame:
    """Collect the user's latest positive items, at every moment with a positive.

    Args:
        interactions: ``user_id``, ``item_id``, ``event_timestamp``, ``label``.
        max_length: Largest number T of items in a row, at least 1.

    Returns:
        Rows of ``user_behavior``, the latest item last in each. Positives of one moment stand in one row, in the order of
        ``moments.in_moment``.
    """
    positives = interactions.where(F.col("label") == 1)
    keys = in_moment(positives)
    by_time = Window.partitionBy("user_id").orderBy("event_timestamp", *keys)
    moment = Window.partitionBy("user_id", "event_timestamp").orderBy(*[key.desc() for key in keys])
    item = F.struct("item_id", F.unix_seconds("event_timestamp").alias("seconds"))
    latest = F.collect_list(item).over(by_time.rowsBetween(-(max_length - 1), 0))
    rows = positives.withColumn("latest", latest).withColumn("from_last", F.row_number().over(moment))
    return rows.where(F.col("from_last") == 1).select(
        "user_id",
        F.col("latest.item_id").alias("behavior_item_ids"),
        F.col("latest.seconds").alias("behavior_timestamps"),
        F.timestamp_micros(F.unix_micros("event_timestamp") + 1).alias("event_timestamp"),
    )
