"""An encoder is trained on item pairs and published as the next version.

In: rows of ``item_pairs`` and ``items``. Out: encoder ``v<n>``, aligned, and how its held-out pairs fared before and after.
What was prepared is kept under ``<artifacts>/work`` until the version is published, so that a killed run goes on.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from qarm_features.alignment import AlignmentOptions, align
from qarm_features.alignment.export_pairs import write_alignment_data
from qarm_features.embedding.encoder_versions import (
    item_encoder_arguments,
    item_encoder_config,
    media_limits,
    publish_encoder,
)
from qarm_features.encoders.item_encoder import ItemEncoder, raw_columns
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import Artifact, Artifacts, fingerprint

_NOT_OF_THE_TRAINER = {"valid_share", "max_pairs", "num_processes"}


def alignment_fingerprint(settings: Settings) -> str:
    """Returns what tells encoders apart that were aligned with other settings."""
    training = {"seed": settings.seed, **settings.alignment.options(but={"num_processes", "cache_bytes"})}
    return fingerprint([item_encoder_config(settings, aligned=True), training])


def train_encoder(
    settings: Settings,
    encoders: Artifacts,
    pairs: DataFrame,
    items: DataFrame,
    *,
    pairs_version: int,
    run: Callable[..., Any],
) -> Artifact:
    """Trains an encoder and publishes it.

    Args:
        settings: Of the project.
        encoders: Where it is published.
        pairs: Rows of ``item_pairs``.
        items: Rows of ``items``.
        pairs_version: Delta version of the pairs: work begun on others is not gone on with.
        run: Calls a function with its arguments, in as many processes as it likes.

    Returns:
        The encoder; its manifest holds the metrics and the number of ``pairs``.
    """
    made_from, of = alignment_fingerprint(settings), settings.alignment
    options = AlignmentOptions(seed=settings.seed, **of.options(but=_NOT_OF_THE_TRAINER))
    work = settings.artifacts_path / "work" / f"align-{made_from}-{pairs_version}"
    arguments = item_encoder_arguments(settings, aligned=True)
    rows = write_alignment_data(
        pairs,
        items,
        work / "source",
        columns=raw_columns(arguments["modalities"]),
        max_pairs=of.max_pairs,
        valid_share=of.valid_share,
        seed=settings.seed,
    )
    with tempfile.TemporaryDirectory() as output:
        run(
            align, functools.partial(ItemEncoder, **arguments), str(work / "source"), output,
            options=options, checkpoint_dir=str(work / "checkpoints"),
        )  # fmt: skip
        metrics = json.loads((Path(output) / "metrics.json").read_text())
        encoder = ItemEncoder.from_pretrained(output, limits=media_limits(settings))
    pairs_until = pairs.agg({"event_timestamp": "max"}).first()[0].isoformat()
    artifact = publish_encoder(
        encoders, encoder, settings, alignment=made_from, metrics=metrics, pairs=rows, pairs_until=pairs_until
    )
    shutil.rmtree(work)
    return artifact
