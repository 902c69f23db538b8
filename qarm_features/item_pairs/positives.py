"""Input of both sources of item pairs: the latest positives of users, and dense integers that replace item IDs.

In: ``interactions``. Out: small rows that are cheap to shuffle. Nothing that grows with users or items is collected.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.storage.moments import in_moment
from qarm_features.storage.tables import ORDER_IN_MOMENT

_COLUMNS = ("user_id", "item_id", "event_timestamp", ORDER_IN_MOMENT)


def positives(interactions: DataFrame, *, until: datetime | None = None) -> DataFrame:
    """Select positive interactions.

    Args:
        interactions: Rows of ``interactions``.
        until: Moment before which an interaction must be. None selects all.

    Returns:
        ``user_id``, ``item_id``, ``event_timestamp``, and ``order_in_moment`` if the rows have it.

    Example::

        positives(interactions, until=datetime(2026, 1, 1, tzinfo=UTC))
    """
    rows = interactions.where(F.col("label") == 1)
    if until is not None:
        rows = rows.where(F.col("event_timestamp") < F.lit(until))
    return rows.select(*[name for name in rows.columns if name in _COLUMNS])


def latest_positives(positives: DataFrame, *, max_items: int) -> DataFrame:
    """Keep the latest positives of each user. Positives at one moment are in the order of ``moments.in_moment``.

    Args:
        positives: ``user_id``, ``item_id``, ``event_timestamp``, and perhaps ``order_in_moment``.
        max_items: Largest number of positives of a user, at least 1.

    Returns:
        ``user_id``, ``item_id``, ``micros`` (microseconds since 1970), and ``from_last`` (int, 1 for the user's latest).
    """
    latest_first = [key.desc() for key in (F.col("event_timestamp"), *in_moment(positives))]
    from_last = F.row_number().over(Window.partitionBy("user_id").orderBy(*latest_first))
    rows = positives.withColumn("from_last", from_last).where(F.col("from_last") <= max_items)
    return rows.select("user_id", "item_id", F.unix_micros("event_timestamp").alias("micros"), "from_last")


def dense_index(rows: DataFrame, column: str, index: str) -> DataFrame:
    """Number the distinct values of a column from 0 in their order, so that the order of numbers is the order of IDs.

    Only the number of rows in each partition reaches the driver. The numbered rows are persisted, because a second sort
    could cut the partitions at other values.

    Args:
        rows: Rows with the column.
        column: Name of the column.
        index: Name of the numbers.

    Returns:
        ``column`` and ``index`` (int), one row per distinct value.
    """
    part, place = F.spark_partition_id(), F.monotonically_increasing_id()
    ordered = rows.select(column).distinct().orderBy(column)
    ordered = ordered.select(column, part.alias("part"), place.alias("place")).persist()
    counts = {row["part"]: row["count"] for row in ordered.groupBy("part").count().collect()}
    starts = [0]
    for number in range(max(counts, default=0)):
        starts.append(starts[-1] + counts.get(number, 0))
    start_of_part = F.element_at(F.lit(starts), F.col("part") + 1)
    in_part = F.col("place").bitwiseAND(F.lit(2**33 - 1))  # the upper 31 bits hold the partition
    return ordered.select(column, (start_of_part + in_part).cast("int").alias(index))
