"""The prefixes of all semantic IDs of a release, from the whole catalog down to single IDs.

In: the codes of all items. Out: one row per prefix. ::

    item_id  rq_codes  positives      prefix  items  children  positives
    71       [3, 0]    9          ->  []      3      2         15
    50       [3, 8]    5              [3]     2      2         14
    64       [7, 8]    1              [3, 0]  1      0         9
                                      ...
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def prefixes(rows: DataFrame, *, num_levels: int) -> DataFrame:
    """Count items, positives and children of every prefix.

    Args:
        rows: ``rq_codes`` (L) and ``positives`` of all items.
        num_levels: L, at least 1.

    Returns:
        ``prefix`` (0 to L codes), ``items``, ``children``, ``positives``.
    """
    sums = F.count("*").alias("items"), F.lit(0).cast("bigint").alias("children"), F.sum("positives").alias("positives")
    levels = [rows.groupBy(F.col("rq_codes").alias("prefix")).agg(*sums)]
    for level in range(num_levels - 1, -1, -1):
        above = levels[-1].groupBy(F.slice("prefix", 1, level).alias("prefix"))
        sums = F.sum("items").alias("items"), F.count("*").alias("children"), F.sum("positives").alias("positives")
        levels.append(above.agg(*sums))
    return reduce(DataFrame.unionByName, levels)


def of_each_level(rows: DataFrame, *, num_levels: int, least: int = 1) -> DataFrame:
    """Repeat each row for each of its prefixes.

    Args:
        rows: ``rq_codes`` (L), and further columns.
        num_levels: L, at least 1.
        least: Number of codes of the shortest prefix, 0 or 1.

    Returns:
        The rows with ``prefix`` in place of ``rq_codes``.
    """
    levels = F.array([F.slice("rq_codes", 1, level) for level in range(least, num_levels + 1)])
    return rows.withColumn("prefix", F.explode(levels)).drop("rq_codes")


def collisions(rows: DataFrame) -> DataFrame:
    """Count the items of every semantic ID that several items share.

    Args:
        rows: ``rq_codes`` and ``content_hash`` of all items.

    Returns:
        ``rq_codes``, ``items``, ``equal_contents`` (number of them whose content another of them has as well), those of most
        items first.
    """
    contents = rows.groupBy("rq_codes", "content_hash").agg(F.count("*").alias("items"))
    equal = F.when(F.col("content_hash").isNotNull() & (F.col("items") > 1), F.col("items")).otherwise(0)
    buckets = contents.groupBy("rq_codes").agg(F.sum("items").alias("items"), F.sum(equal).alias("equal_contents"))
    return buckets.where(F.col("items") > 1).orderBy(F.desc("items"), "rq_codes")
