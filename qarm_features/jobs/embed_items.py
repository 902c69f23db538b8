"""Embeds the items whose content or encoder version is new.

In: ``items``, an encoder version. Out: ``item_embeddings``, ``rejected_rows``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from qarm_features.embedding.embed_items import write_embeddings
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
    limits = media_limits(settings.encoder, settings.path)
    found = write_embeddings(warehouse, items, present, encoder, settings.encoder, limits=limits, replace_rejected=True)
    rows_in, rejected = items.count(), found.rejected
    remark = f"{found.rows - rejected} items embedded by encoder v{encoder.version}, the others unchanged"
    return Counts(rows_in, rows_in - rejected, rejected, remark)
