"""items, encoder -> item_content_tokens, and a memory-mapped folder of them for training."""

from __future__ import annotations

import functools
from typing import Annotated

import typer
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.embedding.content_layout import lay_out_content
from qarm_features.embedding.content_tokens import Backbones, backbones_of, items_without_tokens, write_tokens
from qarm_features.embedding.encoder_versions import current_encoder, media_limits
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.storage.tables import ITEM_CONTENT_TOKENS, ITEMS


@job(
    after="ingest-catalog",
    reads=("items", "encoders/"),
    writes=("item_content_tokens", "item_content/", "encoders/"),
    settings=("encoder", "items"),
)
def write_content_tokens(
    context: JobContext,
    encoder_version: Annotated[int | None, typer.Option(help="Encoder whose backbones; by default the newest.")] = None,
) -> Counts:
    """Keeps what the frozen backbones see of each item, at most encoder.tokens_kept tokens of a modality, for a ranking model
    that trains the fusion above them. Only items whose content is new are encoded; the folder artifacts/item_content/v<n> is
    laid out anew when any was. It takes 12 kB an item at 16 tokens of 384 numbers."""
    settings, warehouse, encoders = context.settings, context.warehouse, context.artifacts("encoders")
    wanted = encoder_version is not None
    encoder = (
        encoders.get(encoder_version).verify()
        if wanted
        else current_encoder(encoders, settings.items, settings.encoder)
    )
    backbones = backbones_of(encoder, tokens_kept=settings.encoder.tokens_kept)
    items = warehouse.read(ITEMS, version=warehouse.version(ITEMS))
    rows, rows_new, rejected = items.count(), _new(context, items, backbones).count(), 0
    chunks = -(-rows_new // settings.encoder.items_per_commit)
    for chunk in range(chunks):  # a killed run goes on from the last commit
        new = _new(context, items, backbones).where(F.pmod(F.xxhash64("item_id"), F.lit(chunks)) == chunk)
        of = {
            "limits": media_limits(settings.encoder, settings.path),
            "batch_size": settings.encoder.batch_size,
            "rows": rows_new // chunks,
        }
        encoded = write_tokens(new, encoder, backbones, **of).persist(StorageLevel.DISK_ONLY)
        if encoded.count() or not warehouse.exists(ITEM_CONTENT_TOKENS):  # else a new version would hold nothing new
            warehouse.upsert(ITEM_CONTENT_TOKENS, encoded)
        encoded.unpersist()
    if rows_new:
        rejected = _new(context, items, backbones).count()
    made_from = {"backbones": backbones.fingerprint, "delta_version": warehouse.version(ITEM_CONTENT_TOKENS)}
    folders = context.artifacts("item_content")
    laid_out = folders.find(**made_from)
    if laid_out is None:
        lay_out = functools.partial(
            lay_out_content, warehouse, items, backbones=backbones, delta_version=made_from["delta_version"]
        )
        laid_out = folders.publish(lay_out, encoder_version=encoder.version, **made_from)
    remark = f"{rows_new - rejected} items encoded, {rejected} have no tokens; item_content v{laid_out.version}"
    return Counts(rows, rows - rejected, rejected, remark)


def _new(context: JobContext, items: DataFrame, backbones: Backbones) -> DataFrame:
    tokens = context.warehouse.read_or_empty(ITEM_CONTENT_TOKENS)
    return items_without_tokens(items, tokens, backbones=backbones.fingerprint)
