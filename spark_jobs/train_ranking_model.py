"""training_rows -> ranking models v<n>, with and without semantic IDs."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from pyspark.ml.torch.distributor import TorchDistributor

from qarm_features.artifacts import Artifact, Artifacts, fingerprint
from qarm_features.feature_store.feature_views import Release
from qarm_features.feature_store.releases import require_promoted_release
from qarm_features.ranking import TrainingOptions
from qarm_features.ranking import train_ranking_model as train
from qarm_features.settings import Settings
from qarm_features.tables import TRAINING_ROWS, Warehouse
from spark_jobs.session import Counts, JobContext, job, main

VARIANTS = {"item IDs": {"use_semantic_ids": False}, "item IDs + semantic IDs": {"use_semantic_ids": True}}


@job(
    after="build-training-set",
    reads=("training_rows", "releases/"),
    writes=("ranking_models/",),
    settings=("ranking", "behavior", "seed"),
)
def train_ranking_model(
    context: JobContext,
    num_seeds: Annotated[
        int | None, typer.Option(help="Models trained per variant; by default as in qarm.yaml.")
    ] = None,
) -> Counts:
    """Trains the reference ranking model on item IDs alone and on item IDs with semantic IDs, and tests both."""
    settings, models = context.settings, context.artifacts("ranking_models")
    release = require_promoted_release(settings)
    _ = context.spark  # TorchDistributor places its processes by the session
    trained = [
        _train_variant(models, settings, release, variant=variant, seed=settings.seed + number)
        for variant in VARIANTS
        for number in range(num_seeds or settings.ranking.num_seeds)
    ]
    rows = context.warehouse.read(TRAINING_ROWS).where(f"codebook_version = {release.codebook_version}").count()
    aucs = [f"{model.manifest['variant']} {model.manifest['metrics']['test']['auc']:.4f}" for model in trained]
    return Counts(rows, rows, 0, "test AUC: " + ", ".join(aucs))


def _train_variant(models: Artifacts, settings: Settings, release: Release, *, variant: str, seed: int) -> Artifact:
    """Trains one model, or returns the version that was trained on the same rows in the same way."""
    warehouse = Warehouse.of(settings)
    files = {
        split: warehouse.files(TRAINING_ROWS, codebook_version=release.codebook_version, split=split)
        for split in ("train", "valid", "test")
    }
    options = TrainingOptions(
        epochs=settings.ranking.epochs,
        batch_size=settings.ranking.batch_size,
        learning_rate=settings.ranking.learning_rate,
        behavior_length=settings.behavior.max_length,
        seed=seed,
    )
    made_from = {"variant": variant, "seed": seed, "inputs": fingerprint([files, str(options)])}
    existing = models.find(**made_from)
    if existing is not None:
        return existing
    with tempfile.TemporaryDirectory() as folder:
        processes = settings.ranking.num_processes
        TorchDistributor(num_processes=processes, local_mode=processes == 1, use_gpu=False).run(
            train, files["train"], files["valid"], files["test"], folder,
            options=options, num_levels=release.num_levels, codebook_size=release.codebook_size,
            codebook_version=release.codebook_version, **VARIANTS[variant],
        )  # fmt: skip
        metrics = json.loads((Path(folder) / "metrics.json").read_text())

        def copy(target: Path) -> None:
            for file in Path(folder).iterdir():
                (target / file.name).write_bytes(file.read_bytes())

        return models.publish(copy, **made_from, codebook_version=release.codebook_version, metrics=metrics)


if __name__ == "__main__":
    main(train_ranking_model)
