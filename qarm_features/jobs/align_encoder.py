"""Aligns the item encoder.

In: ``item_pairs``, ``items``. Out: an encoder version.
"""

from __future__ import annotations

from typing import Annotated

import typer

from qarm_features.alignment.align_encoder import train_encoder
from qarm_features.embedding.encoder_versions import (
    alignment_fingerprint,
    item_encoder_config,
    media_limits,
    unaligned_encoder,
    with_limits,
)
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext, existing_version
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.training_processes import TrainingProcesses
from qarm_features.storage.tables import ITEM_PAIRS, ITEMS


@job(
    after="mine-item-pairs",
    reads=("items", "item_pairs", "encoders/"),
    writes=("encoders/",),
    settings=ENCODER_SETTINGS,
)
def align_encoder(
    context: JobContext,
    realign: Annotated[bool, typer.Option(help="Train a new version even if one has the present settings.")] = False,
) -> Counts:
    """Trains the encoder on item pairs and publishes it as the next encoder version.

    An existing version is kept until its settings change or --realign is given, because a new one makes new embeddings,
    new codebooks and a new release necessary.
    """
    settings, warehouse, encoders = context.settings, context.warehouse, context.artifacts("encoders")
    pairs = warehouse.read(ITEM_PAIRS)
    config = item_encoder_config(settings.items, settings.encoder, aligned=True)
    made_from = alignment_fingerprint(config, settings.alignment, settings.seed)
    existing = encoders.find(aligned=True, alignment=made_from)
    if existing is not None and not realign:
        rows = pairs.count()
        return Counts(rows, rows, 0, f"encoder v{existing.version} is kept. Use --realign to train a new one")
    if pairs.isEmpty():
        raise ValueError(
            "item_pairs has 0 rows, must have at least 1. Lower the thresholds of item_pairs, then run: qarm mine-item-pairs"
        )
    unaligned_encoder(encoders, settings.items, settings.encoder)
    arguments = with_limits(config, media_limits(settings.encoder, settings.path))
    processes = TrainingProcesses(context, settings.alignment.num_processes)
    with processes.loading(ItemEncoder, **arguments):  # while Spark writes the training data
        trained = train_encoder(
            encoders,
            pairs,
            warehouse.read(ITEMS),
            config=config,
            arguments=arguments,
            alignment=settings.alignment,
            seed=settings.seed,
            work=settings.state_path / "work",
            pairs_version=existing_version(warehouse, ITEM_PAIRS),
            run=processes.run,
        )
    rows, metrics = trained.manifest["pairs"], trained.manifest["metrics"]
    shown = [
        f"{words} {metrics['untrained'][name]:.3f} -> {metrics['valid'][name]:.3f}"
        for words, name in (("held-out HitRate@10", "hit_rate"), ("nearer than items as popular", "score"))
    ]
    return Counts(rows, rows, 0, f"encoder v{trained.version}, {', '.join(shown)}")
