"""Evaluates encoder versions on co-clicks that no encoder was trained on.

In: ``interactions``, ``item_pairs``, ``items``, encoders. Out: HitRate@k by encoder version, on the terminal and as JSON.
"""

from __future__ import annotations

from typing import Annotated

import typer

from qarm_features.embedding.encoder_versions import current_encoder, unaligned_encoder
from qarm_features.evaluation.co_click_pairs import evaluation_period
from qarm_features.evaluation.encoders import evaluate
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext
from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import EVALUATIONS
from qarm_features.report.terminal import encoder_table
from qarm_features.storage.artifacts import write_json
from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, ITEM_PAIRS, ITEMS
from qarm_features.terminal import plain_console
from qarm_features.training.time_split import SPLIT_SETTINGS


@job(
    after="mine-item-pairs, align-encoder",
    reads=("items", "interactions", "item_pairs", "encoders/"),
    writes=("item_embeddings", EVALUATIONS),
    settings=(*ENCODER_SETTINGS, *SPLIT_SETTINGS),
)
def evaluate_encoder(
    context: JobContext,
    encoder_version: Annotated[
        int | None, typer.Option(help="Encoder version to evaluate; the newest by default.")
    ] = None,
    k: Annotated[int, typer.Option(help="Number k of nearest items in HitRate@k.", min=1)] = 10,
    max_pairs: Annotated[int, typer.Option(help="Highest number of co-clicks, sampled by seed.", min=1)] = 20_000,
) -> Counts:
    """Measures how often a positive is among the k items nearest to a positive of the user at the moment before.

    Only positives later than all item pairs count. Positives of one moment, for example of a basket, have no order: they
    are a figure of their own, and their share is printed. The table compares the encoder with the frozen one and with
    chance. Items that an encoder version has not embedded are embedded first.
    """
    settings, warehouse, encoders = context.settings, context.warehouse, context.artifacts("encoders")
    frozen = unaligned_encoder(encoders, settings.items, settings.encoder)
    requested = None if encoder_version is None else encoders.get(encoder_version)
    wanted = requested or current_encoder(encoders, settings)
    versions = sorted({wanted.version, *([frozen.version] if frozen else [])})
    for version in versions:
        embed_items.function(context, encoder_version=version)
    known, log = warehouse.read(ITEM_PAIRS), warehouse.read(INTERACTIONS)
    current = warehouse.read(ITEMS).select("item_id", "content_hash")
    figures = evaluate(
        log,
        known,
        warehouse.read(ITEM_EMBEDDINGS).join(current, on=["item_id", "content_hash"], how="left_semi"),
        versions=versions,
        frozen=frozen.version if frozen else None,
        period=evaluation_period(known, log, settings.ranking),
        k=k,
        max_pairs=max_pairs,
        seed=settings.seed,
    )
    figures |= {"frozen": frozen and frozen.version, "encoder_version": wanted.version}
    write_json(settings.artifacts_path / "evaluations" / "encoder.json", figures)
    plain_console().print(encoder_table(figures))
    used = figures["pairs"]["all"]
    shown = ", ".join(f"v{version} {rates['all'] or 0:.4f}" for version, rates in figures["hit_rate"].items())
    return Counts(figures["co_clicks"], used, figures["co_clicks"] - used, f"HitRate@{k} {shown}")
