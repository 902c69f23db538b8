"""The click log becomes the labeled impressions of users and the counters of items.

In: ``interactions``. Out: ``user_impressions`` and ``item_counters``, with one row for every moment at which they changed.
The row of a moment gets a timestamp one microsecond later, as in ``user_behavior``, so that a join at time t sees only
events before t. ::

    user_id  item_id  event_timestamp  label      user_id  impression_item_ids  impression_labels  event_timestamp
    7        1        10:00            1      ->  7        [1]                  [1]                10:00:00.000001
    7        2        11:00            0          7        [1, 2]               [1, 0]             11:00:00.000001
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.storage.moments import in_moment

_FROM_FIRST = (Window.unboundedPreceding, Window.currentRow)


def user_impressions(interactions: DataFrame, *, max_length: int) -> DataFrame:
    """Collect the user's latest impressions with their labels, at every moment with an impression.

    Args:
        interactions: ``user_id``, ``item_id``, ``event_timestamp``, ``label``.
        max_length: Largest number T2 of impressions in a row, at least 1.

    Returns:
        Rows of ``user_impressions``, the latest impression last in each. Impressions of one moment stand in one row, in the
        order of ``moments.in_moment``.
    """
    keys = in_moment(interactions)
    by_time = Window.partitionBy("user_id").orderBy("event_timestamp", *keys)
    moment = Window.partitionBy("user_id", "event_timestamp").orderBy(*[key.desc() for key in keys])
    seconds = F.unix_seconds("event_timestamp").alias("seconds")
    latest = F.collect_list(F.struct("item_id", _positive().alias("label"), seconds))
    rows = interactions.select(
        "user_id",
        "event_timestamp",
        latest.over(by_time.rowsBetween(-(max_length - 1), 0)).alias("latest"),
        F.sum(_positive()).over(by_time.rowsBetween(*_FROM_FIRST)).alias("positives"),
        F.count("*").over(by_time.rowsBetween(*_FROM_FIRST)).alias("impressions"),
        F.row_number().over(moment).alias("from_last"),
    )
    return rows.where(F.col("from_last") == 1).select(
        "user_id",
        F.col("latest.item_id").alias("impression_item_ids"),
        F.col("latest.label").alias("impression_labels"),
        F.col("latest.seconds").alias("impression_timestamps"),
        F.col("positives").alias("user_positive_count"),
        F.col("impressions").alias("user_impression_count"),
        _just_after("event_timestamp"),
    )


def item_counters(interactions: DataFrame) -> DataFrame:
    """Count the positives and impressions of an item so far, at every moment with an impression of it.

    Args:
        interactions: ``item_id``, ``event_timestamp``, ``label``.

    Returns:
        Rows of ``item_counters``.
    """
    moments = interactions.groupBy("item_id", "event_timestamp").agg(
        F.sum(_positive()).alias("positives"), F.count("*").alias("impressions")
    )
    so_far = Window.partitionBy("item_id").orderBy("event_timestamp").rowsBetween(*_FROM_FIRST)
    return moments.select(
        "item_id",
        F.sum("positives").over(so_far).alias("item_positive_count"),
        F.sum("impressions").over(so_far).alias("item_impression_count"),
        _just_after("event_timestamp"),
    )


def _positive() -> Column:
    """Return the label of an impression, 0 where it is null."""
    return F.coalesce(F.col("label"), F.lit(0))


def _just_after(moment: str) -> Column:
    """Return the time one microsecond after a moment, as ``event_timestamp``."""
    return F.timestamp_micros(F.unix_micros(moment) + 1).alias("event_timestamp")
