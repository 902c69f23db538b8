"""item_semantic_ids, user_behavior -> Feast views, online store; then the flip."""

from __future__ import annotations

from typing import Annotated

import typer
from pyspark.sql import functions as F

from qarm_features.feature_store.feature_views import Release
from qarm_features.feature_store.releases import publish_release
from qarm_features.tables import ITEM_SEMANTIC_IDS
from spark_jobs.session import Counts, JobContext, current_codebooks, job, main


@job(
    after="assign-semantic-ids, build-user-behavior",
    reads=("item_semantic_ids", "user_behavior", "codebooks/"),
    writes=("releases/",),
    settings=("encoder", "codebooks", "seed", "publishing"),
)
def publish_features(
    context: JobContext,
    codebook_version: Annotated[int | None, typer.Option(help="Codebooks to release; by default the newest.")] = None,
) -> Counts:
    """Loads a release into the online store, reads it back, and flips the service to it."""
    warehouse = context.warehouse
    codebooks = current_codebooks(context, codebook_version)
    delta_version = warehouse.version(ITEM_SEMANTIC_IDS)
    rows = warehouse.read(ITEM_SEMANTIC_IDS, version=delta_version)
    release = Release(
        codebook_version=codebooks.version,
        encoder_version=codebooks.manifest["encoder_version"],
        num_levels=codebooks.manifest["num_levels"],
        codebook_size=codebooks.manifest["codebook_size"],
        delta_version=delta_version,
        rows=rows.where(F.col("codebook_version") == codebooks.version).count(),
    )
    publish_release(context.spark, context.settings, release)
    return Counts(release.rows, release.rows, 0, f"item_semantic_id now serves {release.view_name}")


if __name__ == "__main__":
    main(publish_features)
