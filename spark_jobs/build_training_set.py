"""interactions, the views of the promoted release -> training_rows."""

from __future__ import annotations

from pyspark.sql import functions as F

from qarm_features.feature_store.feature_views import open_feature_store
from qarm_features.feature_store.releases import require_promoted_release
from qarm_features.tables import INTERACTIONS, TRAINING_ROWS
from qarm_features.training_set import training_rows
from spark_jobs.session import Counts, JobContext, job, main


@job(
    after="publish-features",
    reads=("interactions", "item_semantic_ids", "user_behavior", "releases/"),
    writes=("training_rows",),
    settings=("ranking.valid_share", "ranking.test_share"),
)
def build_training_set(context: JobContext) -> Counts:
    """Joins to every labelled impression the features as they were just before it, through Feast's offline side."""
    settings, warehouse = context.settings, context.warehouse
    release = require_promoted_release(settings)
    interactions = warehouse.read(INTERACTIONS)
    rows = training_rows(
        interactions,
        store=open_feature_store(settings.feature_repo_path),
        release=release,
        valid_share=settings.ranking.valid_share,
        test_share=settings.ranking.test_share,
    )
    version = f"codebook_version = {release.codebook_version}"
    warehouse.overwrite(TRAINING_ROWS, rows, where=version)
    rows_in, written = interactions.count(), warehouse.read(TRAINING_ROWS).where(version)
    splits = {row["split"]: row["count"] for row in written.groupBy("split").agg(F.count("*").alias("count")).collect()}
    rows_out = sum(splits.values())
    if rows_out != rows_in:
        raise ValueError(
            f"training_rows has {rows_out:,} rows, must be {rows_in:,} as interactions. Please report this."
        )
    return Counts(
        rows_in, rows_out, 0, ", ".join(f"{split} {splits.get(split, 0)}" for split in ("train", "valid", "test"))
    )


if __name__ == "__main__":
    main(build_training_set)
