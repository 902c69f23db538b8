"""What both sources start from: a user's latest positives, and dense integers in the place of IDs.

In: ``interactions``. Out: small rows that shuffle cheaply; nothing that grows with users or items is collected.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def positives(interactions: DataFrame, *, until: datetime | None = None) -> DataFrame:
    """Returns ``user_id``, ``item_id``, ``event_timestamp`` of positive interactions, those strictly before ``until``."""
    rows = interactions.where(F.col("label") == 1)
    if until is not None:
        rows = rows.where(F.col("event_timestamp") < F.lit(until))
    return rows.select("user_id", "item_id", "event_timestamp")


def latest_positives(positives: DataFrame, *, max_items: int) -> DataFrame:
    """Keeps a user's latest ``max_items`` positives, of one moment those of the highest item IDs.

    Returns:
        ``user_id``, ``item_id``, ``micros`` (microseconds since 1970).
    """
    from_last = Window.partitionBy("user_id").orderBy(F.col("event_timestamp").desc(), F.col("item_id").desc())
    rows = positives.withColumn("from_last", F.row_number().over(from_last)).where(F.col("from_last") <= max_items)
    return rows.select("user_id", "item_id", F.unix_micros("event_timestamp").alias("micros"))


def dense_index(rows: DataFrame, column: str, index: str) -> DataFrame:
    """Numbers the distinct values of ``column`` from 0 in their order, so that ties by number are ties by ID.

    Only the number of rows in each partition reaches the driver. The numbered rows are persisted, because a second sort
    might cut its partitions elsewhere.

    Returns:
        ``column`` and ``index`` (int).
    """
    part, place = F.spark_partition_id(), F.monotonically_increasing_id()
    ordered = rows.select(column).distinct().orderBy(column)
    ordered = ordered.select(column, part.alias("part"), place.alias("place")).persist()
    counts = dict(ordered.groupBy("part").count().collect())
    starts = [0]
    for number in range(max(counts, default=0)):
        starts.append(starts[-1] + counts.get(number, 0))
    start_of_part = F.element_at(F.lit(starts), F.col("part") + 1)
    in_part = F.col("place").bitwiseAND(F.lit(2**33 - 1))  # Spark keeps the partition in the upper 31 bits
    return ordered.select(column, (start_of_part + in_part).cast("int").alias(index))
