"""Builds the behavior sequences and counters.

In: ``interactions``. Out: ``user_behavior``, ``user_impressions``, ``item_counters``.
"""

from __future__ import annotations

from pyspark.sql import functions as F

from qarm_features.behavior.impression_history import item_counters, user_impressions
from qarm_features.behavior.user_behavior import user_behavior
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.storage.moments import count_ties
from qarm_features.storage.tables import INTERACTIONS, ITEM_COUNTERS, USER_BEHAVIOR, USER_IMPRESSIONS


@job(
    after="ingest-catalog",
    reads=("interactions",),
    writes=("user_behavior", "user_impressions", "item_counters"),
    settings=("behavior",),
)
def build_user_behavior(context: JobContext) -> Counts:
    """Collects the latest positives and impressions of each user, and counts those of each item.

    The tables have one row for every moment at which a sequence or a counter changed. Rows of one user at one moment are in
    the order of interactions.order_by if it is set, and else in that of a hash. Their share is printed.
    """
    warehouse, settings = context.warehouse, context.settings.behavior
    interactions = warehouse.read(INTERACTIONS)
    warehouse.overwrite(USER_BEHAVIOR, user_behavior(interactions, max_length=settings.max_length))
    if settings.impression_length:
        impressions = user_impressions(interactions, max_length=settings.impression_length)
        warehouse.overwrite(USER_IMPRESSIONS, impressions)
        warehouse.overwrite(ITEM_COUNTERS, item_counters(interactions))
    else:  # Empty tables instead of rows of an earlier run.
        for table in (USER_IMPRESSIONS, ITEM_COUNTERS):
            warehouse.overwrite(table, warehouse.empty(table))
    counts = interactions.agg(F.count("*").alias("rows"), F.sum("label").alias("positive")).collect()[0]
    moments = warehouse.read(USER_BEHAVIOR).count()
    ties = count_ties(interactions.where(F.col("label") == 1)).words("positives")
    remark = f"{moments} behavior sequences from {counts['positive'] or 0} positives; {ties}"
    return Counts(counts["rows"], counts["rows"], 0, remark)
