"""Train an encoder on item pairs and publish it as the next version.

In: rows of ``item_pairs`` and ``items``. Out: encoder ``v<n>``, aligned; its manifest holds the metrics of held-out pairs
before and after training. Training data and checkpoints stay in a work folder until the version is published, so that a
killed run continues from them.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from qarm_features.alignment import AlignmentOptions
from qarm_features.alignment.export_pairs import write_alignment_data
from qarm_features.alignment.training import METRICS_FILE, align_new
from qarm_features.embedding.encoder_versions import alignment_fingerprint, publish_files
from qarm_features.encoders.item_encoder import raw_columns
from qarm_features.settings.sections import Alignment
from qarm_features.storage.artifacts import Artifact, Artifacts

_DRIVER_SETTINGS = {"valid_share", "valid_item_share", "max_pairs", "num_processes"}
_VALID_ITEM_SHARE = 0.05


def train_encoder(
    encoders: Artifacts,
    pairs: DataFrame,
    items: DataFrame,
    *,
    config: Mapping[str, Any],
    arguments: Mapping[str, Any],
    alignment: Alignment,
    seed: int,
    work: Path,
    pairs_version: int,
    run: Callable[..., Any],
) -> Artifact:
    """Train an encoder and publish it.

    Args:
        encoders: All encoder versions of the project.
        pairs: Rows of ``item_pairs``.
        items: Rows of ``items``.
        config: Constructor arguments of the encoder, from ``item_encoder_config``.
        arguments: The same with the limits of what may be read and decoded, from ``with_limits``.
        alignment: The section ``alignment`` of the settings.
        seed: Seed of the training and of the samples of pairs.
        work: Folder for training data and checkpoints, which all training processes must see.
        pairs_version: Delta version of the pairs; training data and checkpoints of another version are not used.
        run: Function that calls a function with its arguments, in one or more processes.

    Returns:
        The published version; its manifest holds ``metrics`` and the number of ``pairs``.
    """
    made_from = alignment_fingerprint(config, alignment, seed)
    options = AlignmentOptions(seed=seed, **alignment.options(but=_DRIVER_SETTINGS))
    folder = work / f"align-{made_from}-{pairs_version}"
    rows = write_alignment_data(
        pairs,
        items,
        folder / "source",
        columns=raw_columns(arguments["modalities"]),
        max_pairs=alignment.max_pairs,
        valid_share=alignment.valid_share,
        valid_item_share=_VALID_ITEM_SHARE if alignment.valid_item_share is None else alignment.valid_item_share,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as output:
        described = run(
            align_new, arguments, str(folder / "source"), output,
            options=options, checkpoint_dir=str(folder / "checkpoints"),
        )  # fmt: skip
        latest = pairs.agg({"event_timestamp": "max"}).first()
        assert latest is not None  # an aggregate without groups has one row
        manifest = {"alignment": made_from, **described, "pairs": rows, "pairs_until": latest[0].isoformat()}
        artifact = publish_files(encoders, functools.partial(_copy_encoder, Path(output)), config, manifest)
    shutil.rmtree(folder)
    return artifact


def _copy_encoder(saved: Path, folder: Path) -> None:
    shutil.copytree(saved, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(METRICS_FILE))
