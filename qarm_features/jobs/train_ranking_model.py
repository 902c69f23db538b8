"""Trains ranking models.

In: ``training_rows``, and what is known of items. Out: a ranking model version for every variant and seed.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.releases import require_promoted_release
from qarm_features.jobs.context import JobContext, require_codebooks_of
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import RELEASES
from qarm_features.jobs.training_processes import TrainingProcesses
from qarm_features.ranking import train_ranking_models
from qarm_features.storage.tables import TRAINING_ROWS
from qarm_features.training.time_split import require_both_labels
from qarm_features.training.variants_of_a_release import require_rows_of, train_variants


@job(
    after="build-training-set",
    reads=("training_rows", RELEASES, "item_embeddings", "item_nearest_items", "item_content/"),
    writes=("ranking_models/",),
    settings=("ranking", "behavior", "seed"),
)
def train_ranking_model(
    context: JobContext,
    num_seeds: Annotated[
        int | None, typer.Option(help="Number of models per variant; ranking.num_seeds by default.")
    ] = None,
) -> Counts:
    """Trains and tests the variants of the reference ranking model that ranking.variants names.

    By default these are one on item IDs alone, and one on item IDs and semantic IDs. A variant may also read item
    embeddings, VQ codes (run find-nearest-items) or content tokens (run write-content-tokens). These are then stored by item
    index in artifacts/item_features/v<n>, for training and for serving.
    """
    settings = context.settings
    ranking = settings.ranking
    release = require_promoted_release(settings)
    require_codebooks_of(context, release)
    require_rows_of(context.warehouse, release)
    training_rows = context.warehouse.read(TRAINING_ROWS).where(f"codebook_version = {release.codebook_version}")
    labels = training_rows.groupBy("split").agg(F.collect_set("label").alias("labels")).collect()
    require_both_labels({row["split"]: row["labels"] for row in labels})

    def run(*models: Any, **shared: Any) -> Any:
        return TrainingProcesses(context, ranking.num_processes).run(train_ranking_models, *models, **shared)

    trained = [
        model
        for number in range(num_seeds or ranking.num_seeds)
        for model in train_variants(
            context.warehouse,
            release,
            artifacts=settings.artifacts_path,
            ranking=ranking,
            behavior_length=settings.behavior.max_length,
            seed=settings.seed + number,
            run=run,
        )
    ]
    rows = training_rows.count()
    aucs = [f"{model.manifest['variant']} {_rounded(model.manifest['metrics']['test']['auc'])}" for model in trained]
    return Counts(rows, rows, 0, "test AUC: " + ", ".join(aucs))


def _rounded(auc: float | None) -> str:
    return "-" if auc is None else f"{auc:.4f}"
