"""Stores the tokens of the frozen backbones.

In: ``items``, an encoder version. Out: ``item_content_tokens``, and a memory-mapped folder of them for training.
"""

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
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext, existing_version
from qarm_features.jobs.job import Counts, job
from qarm_features.storage.deleting import delete_deleted_items
from qarm_features.storage.tables import ITEM_CONTENT_TOKENS, ITEMS


@job(
    after="ingest-catalog",
    reads=("items", "deleted_items", "encoders/"),
    writes=("item_content_tokens", "item_content/", "encoders/"),
    settings=ENCODER_SETTINGS,
)
def write_content_tokens(
    context: JobContext,
    encoder_version: Annotated[int | None, typer.Option(help="Encoder version to use; the newest by default.")] = None,
) -> Counts:
    """Stores the tokens of the frozen backbones for ranking models that train a fusion on top of them.

    At most encoder.tokens_kept tokens of each modality are stored. Only items with new content are encoded, and then a new
    version of artifacts/item_content is written. It takes 12 kB per item at 16 tokens of 384 numbers.
    """
    settings, warehouse, encoders = context.settings, context.warehouse, context.artifacts("encoders")
    requested = None if encoder_version is None else encoders.get(encoder_version).verify()
    encoder = requested or current_encoder(encoders, settings)
    backbones = backbones_of(encoder, tokens_kept=settings.encoder.tokens_kept)
    items = warehouse.read(ITEMS, version=warehouse.version(ITEMS))
    rows, rows_new, rejected = items.count(), _new(context, items, backbones).count(), 0
    chunks = -(-rows_new // settings.encoder.items_per_commit)
    for chunk in range(chunks):  # A run that was killed continues from the last commit.
        new = _new(context, items, backbones).where(F.pmod(F.xxhash64("item_id"), F.lit(chunks)) == chunk)
        encoded = write_tokens(
            new,
            encoder,
            backbones,
            limits=media_limits(settings.encoder, settings.path),
            batch_size=settings.encoder.batch_size,
            rows=rows_new // chunks,
        ).persist(StorageLevel.DISK_ONLY)
        if encoded.count() or not warehouse.exists(ITEM_CONTENT_TOKENS):  # No empty commit.
            warehouse.upsert(ITEM_CONTENT_TOKENS, encoded, part={"backbones": backbones.fingerprint})
        encoded.unpersist()
    delete_deleted_items(warehouse, ITEM_CONTENT_TOKENS)
    if rows_new:
        rejected = _new(context, items, backbones).count()
    delta_version = existing_version(warehouse, ITEM_CONTENT_TOKENS)
    made_from = {"backbones": backbones.fingerprint, "delta_version": delta_version}
    folders = context.artifacts("item_content")
    content = folders.find(**made_from)
    if content is None:
        lay_out = functools.partial(lay_out_content, warehouse, items, backbones=backbones, delta_version=delta_version)
        content = folders.publish(lay_out, encoder_version=encoder.version, **made_from)
    remark = f"{rows_new - rejected} items encoded, {rejected} have no tokens; item_content v{content.version}"
    return Counts(rows, rows - rejected, rejected, remark)


def _new(context: JobContext, items: DataFrame, backbones: Backbones) -> DataFrame:
    tokens = context.warehouse.read_or_empty(ITEM_CONTENT_TOKENS)
    return items_without_tokens(items, tokens, backbones=backbones.fingerprint)
