"""How often the latest rows of the click log name items that a release lacks, or that came after its codebooks were fitted.

In: ``interactions``, and the codes of a release. Out: numbers of rows.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.evaluation.latest_rows import latest


def unseen_items(interactions: DataFrame, codes: DataFrame, *, days: int) -> dict[str, Any] | None:
    """Count the log's latest rows by what the release knows of their items.

    Args:
        interactions: Rows of ``interactions``.
        codes: ``item_id`` and the boolean ``added_after_fit`` of every item of the release.
        days: Number of days before the log's last row, at least 1.

    Returns:
        ``rows``, of which ``unseen`` name an item without a semantic ID and ``new`` one that came after the fit; ``since``,
        the first moment, in ISO format. None if the log is empty.
    """
    last = interactions.agg(F.max("event_timestamp").cast("long").alias("seconds")).collect()[0]["seconds"]
    if last is None:
        return None
    since, is_latest = latest("event_timestamp", last, days=days)
    by_item = interactions.where(is_latest).groupBy("item_id").agg(F.count("*").alias("rows"))
    known = by_item.join(codes.select("item_id", "added_after_fit"), on="item_id", how="left")
    sums = [
        F.sum("rows").alias("rows"),
        F.coalesce(F.sum(F.when(F.col("added_after_fit").isNull(), F.col("rows"))), F.lit(0)).alias("unseen"),
        F.coalesce(F.sum(F.when(F.col("added_after_fit"), F.col("rows"))), F.lit(0)).alias("new"),
    ]
    counts = known.agg(*sums).collect()[0].asDict()
    return {**counts, "since": since}
