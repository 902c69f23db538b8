"""Embeds the items whose content or encoder version is new.

In: ``items``, an encoder version. Out: ``item_embeddings``, ``rejected_rows``.
"""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from qarm_features.embedding.embed_items import write_embeddings
from qarm_features.embedding.encoder_versions import current_encoder, media_limits
from qarm_features.jobs.bases import WholeWork, mark
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext
from qarm_features.jobs.embed_new_items import embed_new_items, record_embedded
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.skipping import inputs
from qarm_features.storage.change_feed import keep_change_feed
from qarm_features.storage.deleting import delete_deleted_items
from qarm_features.storage.origins import require_same_origin
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEMS

log = logging.getLogger(__name__)


@job(
    after="ingest-catalog",
    reads=("items", "deleted_items", "encoders/"),
    writes=("item_embeddings", "rejected_rows", "encoders/"),
    settings=ENCODER_SETTINGS,
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
    encoder = requested or current_encoder(encoders, settings)
    seen, now = inputs(embed_items, settings), mark(warehouse, ITEMS)
    items = warehouse.read(ITEMS, version=None if now is None else now[1])  # All chunks come from one version.
    assert now is not None  # reading a table that is missing fails
    require_same_origin(warehouse, ITEM_EMBEDDINGS, encoder)
    try:
        found = embed_new_items(context, embed_items.name, seen, now, encoder)
    except WholeWork as reason:
        log.log(reason.level, "embed-items looks at all items, because %s", reason)
        present = warehouse.read_or_empty(ITEM_EMBEDDINGS)
        limits = media_limits(settings.encoder, settings.path)
        found = write_embeddings(
            warehouse, items, present, encoder, settings.encoder, limits=limits, replace_rejected=True
        )
    gone = delete_deleted_items(warehouse, ITEM_EMBEDDINGS)
    # A table of an earlier version of this package keeps none.
    keep_change_feed(context.spark, warehouse.path(ITEMS))
    record_embedded(context, embed_items.name, seen, now, encoder, rejected=found.rejected)
    known = warehouse.row_count(ITEMS) if warehouse.data_version(ITEMS) == now[1] else None
    rows_in, rejected = items.count() if known is None else known, found.rejected
    remark = f"{found.rows - rejected} items embedded by encoder v{encoder.version}, the others unchanged"
    remark += f"; {gone:,} embeddings of deleted items deleted" if gone else ""
    return Counts(rows_in, rows_in - rejected, rejected, remark)
