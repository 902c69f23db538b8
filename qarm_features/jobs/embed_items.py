"""Embeds the items whose content or encoder version is new.

In: ``items``, an encoder version. Out: ``item_embeddings``, ``rejected_rows``.
"""

from __future__ import annotations

from typing import Annotated

import typer
from pyspark import StorageLevel
from pyspark.sql import functions as F

from qarm_features.embedding.embed_items import embed_items as embed
from qarm_features.embedding.embed_items import items_to_embed, write_rejected
from qarm_features.embedding.encoder_versions import current_encoder, media_limits
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.storage.origins import require_same_origin
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEMS


@job(
    after="ingest-catalog",
    reads=("items", "encoders/"),
    writes=("item_embeddings", "rejected_rows", "encoders/"),
    settings=("encoder", "items"),
)
def embed_items(
    context: JobContext,
    encoder_version: Annotated[int | None, typer.Option(help="Encoder version to use; the newest by default.")] = None,
) -> Counts:
    """Embeds the items that are new, whose content changed, or that this encoder version has not embedded.

    Items that the encoder cannot embed are written to rejected_rows with the reason. The next run tries them again.
    """
    settings, warehouse, encoders = context.settings, context.warehouse, context.artifacts("encoders")
    requested = None if encoder_version is None else encoders.get(encoder_version).verify()
    encoder = requested or current_encoder(encoders, settings.items, settings.encoder)
    items = warehouse.read(ITEMS, version=warehouse.version(ITEMS))  # All chunks come from one version.
    require_same_origin(warehouse, ITEM_EMBEDDINGS, encoder)
    present = warehouse.read_or_empty(ITEM_EMBEDDINGS)
    rows_in, rows_new = items.count(), items_to_embed(items, present, encoder_version=encoder.version).count()
    chunks, rejected = max(1, -(-rows_new // settings.encoder.items_per_commit)), 0
    for chunk in range(chunks):
        new = items_to_embed(items, present, encoder_version=encoder.version, chunk=chunk, num_chunks=chunks)
        embedded = embed(
            new,
            encoder,
            limits=media_limits(settings.encoder, settings.path),
            batch_size=settings.encoder.batch_size,
            rows=-(-rows_new // chunks),
        ).persist(StorageLevel.MEMORY_AND_DISK)
        if rows_new or not warehouse.exists(ITEM_EMBEDDINGS):
            rows = embedded.where(F.col("reason").isNull())
            warehouse.upsert(ITEM_EMBEDDINGS, rows, part={"encoder_version": encoder.version})
        rejected += write_rejected(warehouse, embedded, first=chunk == 0, any_new=rows_new > 0)
        embedded.unpersist()
    remark = f"{rows_new - rejected} items embedded by encoder v{encoder.version}, the others unchanged"
    return Counts(rows_in, rows_in - rejected, rejected, remark)
