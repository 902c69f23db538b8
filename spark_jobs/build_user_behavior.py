"""interactions -> user_behavior."""

from __future__ import annotations

from pyspark.sql import functions as F

from qarm_features.tables import INTERACTIONS, USER_BEHAVIOR
from qarm_features.user_behavior import user_behavior
from spark_jobs.session import Counts, JobContext, job, main


@job(after="ingest-catalog", reads=("interactions",), writes=("user_behavior",), settings=("behavior",))
def build_user_behavior(context: JobContext) -> Counts:
    """Collects the latest positive items of every user, at every moment at which they changed."""
    warehouse = context.warehouse
    interactions = warehouse.read(INTERACTIONS)
    warehouse.overwrite(USER_BEHAVIOR, user_behavior(interactions, max_length=context.settings.behavior.max_length))
    counts = interactions.agg(F.count("*").alias("rows"), F.sum("label").alias("positive")).first()
    moments = warehouse.read(USER_BEHAVIOR).count()
    remark = f"{moments} behaviour sequences from {counts['positive'] or 0} positives"
    return Counts(counts["rows"], counts["rows"], 0, remark)


if __name__ == "__main__":
    main(build_user_behavior)
