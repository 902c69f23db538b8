"""training_rows -> ranking models v<n>, with and without semantic IDs."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from qarm_features.artifacts import Artifact, fingerprint
from qarm_features.feature_store.feature_views import Release
from qarm_features.feature_store.releases import require_promoted_release
from qarm_features.ranking import TrainingOptions
from qarm_features.ranking import train_ranking_models as train
from qarm_features.tables import TRAINING_ROWS
from spark_jobs.session import Counts, JobContext, job, main, torch_distributor

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
    settings = context.settings
    release = require_promoted_release(settings)
    trained = [
        model
        for number in range(num_seeds or settings.ranking.num_seeds)
        for model in _train_variants(context, release, seed=settings.seed + number)
    ]
    rows = context.warehouse.read(TRAINING_ROWS).where(f"codebook_version = {release.codebook_version}").count()
    aucs = [f"{model.manifest['variant']} {model.manifest['metrics']['test']['auc']:.4f}" for model in trained]
    return Counts(rows, rows, 0, "test AUC: " + ", ".join(aucs))


def _train_variants(context: JobContext, release: Release, *, seed: int) -> list[Artifact]:
    """Trains the variants of one seed in one launch; those trained on the same rows in the same way are taken as is."""
    settings, models = context.settings, context.artifacts("ranking_models")
    files = {
        split: context.warehouse.files(TRAINING_ROWS, codebook_version=release.codebook_version, split=split)
        for split in ("train", "valid", "test")
    }
    options = TrainingOptions(
        epochs=settings.ranking.epochs,
        batch_size=settings.ranking.batch_size,
        learning_rate=settings.ranking.learning_rate,
        behavior_length=settings.behavior.max_length,
        seed=seed,
    )
    made_from = {"seed": seed, "inputs": fingerprint([files, str(options)])}
    missing = [variant for variant in VARIANTS if models.find(variant=variant, **made_from) is None]
    with tempfile.TemporaryDirectory() as folder:
        outputs = {variant: Path(folder) / str(number) for number, variant in enumerate(missing)}
        if missing:
            torch_distributor(context, settings.ranking.num_processes).run(
                train, [{"output_dir": str(outputs[variant]), **VARIANTS[variant]} for variant in missing],
                train_files=files["train"], valid_files=files["valid"], test_files=files["test"], options=options,
                num_levels=release.num_levels, codebook_size=release.codebook_size,
                codebook_version=release.codebook_version,
            )  # fmt: skip
        for variant, output in outputs.items():
            metrics = json.loads((output / "metrics.json").read_text())
            copy = functools.partial(shutil.copytree, output, dirs_exist_ok=True)
            version = {"codebook_version": release.codebook_version, "metrics": metrics}
            models.publish(copy, variant=variant, **made_from, **version)
    return [models.find(variant=variant, **made_from) for variant in VARIANTS]


if __name__ == "__main__":
    main(train_ranking_model)
