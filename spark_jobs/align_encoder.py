"""item_pairs, items -> encoder v<n>."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from qarm_features.alignment import AlignmentOptions, align
from qarm_features.alignment_data import write_alignment_data
from qarm_features.artifacts import fingerprint
from qarm_features.encoder_versions import (
    item_encoder_arguments,
    item_encoder_config,
    media_limits,
    publish_encoder,
    unaligned_encoder,
)
from qarm_features.item_encoder import ItemEncoder, raw_columns
from qarm_features.tables import ITEM_PAIRS, ITEMS
from spark_jobs.session import Counts, JobContext, job, main, torch_distributor

_NOT_OF_THE_TRAINER = {"valid_share", "max_pairs", "num_processes"}


@job(
    after="mine-item-pairs",
    reads=("items", "item_pairs", "encoders/"),
    writes=("encoders/",),
    settings=("items", "encoder", "alignment", "seed"),
)
def align_encoder(
    context: JobContext,
    realign: Annotated[bool, typer.Option(help="Train a new version although one has these settings.")] = False,
) -> Counts:
    """Trains the encoder on item pairs. An encoder stays until its settings change, or --realign: a new one means new
    embeddings, new codebooks and a new release."""
    settings, warehouse, encoders = context.settings, context.warehouse, context.artifacts("encoders")
    training = {"seed": settings.seed, **settings.alignment.model_dump(exclude={"num_processes", "cache_bytes"})}
    made_from = fingerprint([item_encoder_config(settings, aligned=True), training])
    pairs = warehouse.read(ITEM_PAIRS)
    existing = encoders.find(aligned=True, alignment=made_from)
    if existing is not None and not realign:
        rows = pairs.count()
        return Counts(rows, rows, 0, f"encoder v{existing.version} kept; --realign trains anew")
    unaligned_encoder(encoders, settings)
    options = AlignmentOptions(seed=settings.seed, **settings.alignment.model_dump(exclude=_NOT_OF_THE_TRAINER))
    work = settings.artifacts_path / "work" / f"align-{made_from}-{warehouse.version(ITEM_PAIRS)}"
    arguments = item_encoder_arguments(settings, aligned=True)
    rows = write_alignment_data(
        pairs,
        warehouse.read(ITEMS),
        work / "source",
        columns=raw_columns(arguments["modalities"]),
        max_pairs=settings.alignment.max_pairs,
        valid_share=settings.alignment.valid_share,
        seed=settings.seed,
    )
    with tempfile.TemporaryDirectory() as output:
        torch_distributor(context, settings.alignment.num_processes).run(
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
    before, after = metrics["untrained"]["hit_rate"], metrics["valid"]["hit_rate"]
    return Counts(rows, rows, 0, f"encoder v{artifact.version}, held-out HitRate@10 {before:.3f} -> {after:.3f}")


if __name__ == "__main__":
    main(align_encoder)
