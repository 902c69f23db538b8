"""All that the explorer holds of each item, in the order of codes.

In: the shown items of a release, and what was computed about them. Out: a stream of ``ItemRow``, one partition of Spark
after the other, so that memory does not grow with the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from qarm_features.explorer.schema import ItemRow, NearIds

_BESIDE = ("by_embedding", "by_co_click", "history", "picture")


def item_rows(shown: DataFrame, *beside: DataFrame) -> Iterator[ItemRow]:
    """Stream the items in the order of their codes; those of one semantic ID, the most popular first.

    Args:
        shown: ``item_id``, ``title``, ``text``, ``rq_codes``, ``positives``.
        beside: ``item_id`` and one of ``by_embedding``, ``by_co_click``, ``history`` and ``picture`` each. An item may be
            absent.
    """
    rows = shown.select("item_id", "title", "text", "rq_codes", "positives")
    for more in beside:
        rows = rows.join(more, on="item_id", how="left")
    absent = [name for name in _BESIDE if name not in rows.columns]
    rows = rows.orderBy("rq_codes", F.desc("positives"), "item_id")
    rows = rows.withColumns({"item_id": F.col("item_id").cast("string"), **{name: F.lit(None) for name in absent}})
    for row in streamed(rows):
        yield ItemRow(
            row["item_id"],
            row["title"],
            row["text"],
            row["rq_codes"],
            row["positives"],
            None if row["picture"] is None else bytes(row["picture"]),
            NearIds() if row["by_embedding"] is None else NearIds(*row["by_embedding"]),
            NearIds() if row["by_co_click"] is None else NearIds(*row["by_co_click"]),
            row["history"] or (),
        )


def streamed(rows: DataFrame) -> Iterator[Any]:
    """Compute all partitions at once on the executors, which keep them on disk, and stream them one by one.

    Args:
        rows: Rows, whose order is kept.
    """
    kept = rows.persist(StorageLevel.DISK_ONLY)
    try:
        kept.count()
        yield from kept.toLocalIterator(prefetchPartitions=True)
    finally:
        kept.unpersist()
