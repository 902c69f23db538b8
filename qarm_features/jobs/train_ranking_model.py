"""training_rows, what is known of items -> ranking models v<n>, a version for every variant and seed."""

from __future__ import annotations

from typing import Annotated

import typer

from qarm_features.feature_store.publishing.releases import require_promoted_release
from qarm_features.jobs.context import JobContext, torch_distributor
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import RELEASES
from qarm_features.ranking import train_ranking_models
from qarm_features.storage.tables import TRAINING_ROWS
from qarm_features.training.variants_of_a_release import train_variants


@job(
    after="build-training-set",
    reads=("training_rows", RELEASES, "item_embeddings", "item_nearest_items", "item_content/"),
    writes=("ranking_models/",),
    settings=("ranking", "behavior", "seed"),
)
def train_ranking_model(
    context: JobContext,
    num_seeds: Annotated[
        int | None, typer.Option(help="Models trained per variant; by default as in qarm.yaml.")
    ] = None,
) -> Counts:
    """Trains and tests the variants of the reference ranking model that ranking.variants names: by default on item IDs alone
    and on item IDs with semantic IDs. Some read more of items: frozen vectors, VQ codes (find-nearest-items), content
    tokens (write-content-tokens); artifacts/item_features/v<n> then holds it by item index, for training and serving."""
    settings = context.settings
    ranking = settings.ranking
    release = require_promoted_release(settings)

    def run(*models, **shared):
        return torch_distributor(context, ranking.num_processes).run(train_ranking_models, *models, **shared)

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
    rows = context.warehouse.read(TRAINING_ROWS).where(f"codebook_version = {release.codebook_version}").count()
    aucs = [f"{model.manifest['variant']} {_shown(model.manifest['metrics']['test']['auc'])}" for model in trained]
    return Counts(rows, rows, 0, "test AUC: " + ", ".join(aucs))


def _shown(auc: float | None) -> str:
    return "-" if auc is None else f"{auc:.4f}"
