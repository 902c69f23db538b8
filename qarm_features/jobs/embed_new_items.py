"""The items that came or changed since the last run are embedded, and no other item is looked at.

In: the basis of the last run, and the change feed of ``items``. Out: rows of ``item_embeddings`` as a run over the whole
catalog would give them, or ``WholeWork`` before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.sql import functions as F

from qarm_features.embedding.embed_items import Embedded, embeddings_of, write_embeddings
from qarm_features.embedding.encoder_versions import media_limits
from qarm_features.jobs.bases import (
    Basis,
    WholeWork,
    changes_since,
    counted,
    mark,
    read_basis,
    require_same,
    write_basis,
)
from qarm_features.jobs.context import JobContext
from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.change_feed import COMES, KIND, last_changes
from qarm_features.storage.tables import DELETED_ITEMS, ITEM_EMBEDDINGS, ITEMS

# Changes of items are read, deleted items leave after every run, and the encoder is a fact.
_NOT_COMPARED = (ITEMS.name, DELETED_ITEMS.name, "encoders/")


def embed_new_items(context: JobContext, job: str, seen: Mapping[str, Any], now: Any, encoder: Artifact) -> Embedded:
    """Embeds the items that came or changed since the last run.

    Args:
        context: Context of the job.
        job: Name of the job.
        seen: Its present inputs.
        now: Present state of ``items``, from ``mark``.
        encoder: Encoder version.

    Returns:
        What was written.

    Raises:
        WholeWork: Something else happened than that items came, changed or left.
    """
    settings, warehouse = context.settings, context.warehouse
    basis = read_basis(settings, job, whole=context.whole)
    require_same(basis.inputs, seen, "changed", but=_NOT_COMPARED)
    if basis.facts["encoder"] != _made_by(encoder):
        raise WholeWork(f"the last run embedded by another encoder than v{encoder.version}")
    if basis.facts["rejected"]:
        raise WholeWork(f"{basis.facts['rejected']:,} items could not be embedded, which is tried again")
    written = {ITEM_EMBEDDINGS.name: mark(warehouse, ITEM_EMBEDDINGS)}
    require_same(
        {ITEM_EMBEDDINGS.name: basis.tables[ITEM_EMBEDDINGS.name]}, written, "holds other rows than that run wrote"
    )
    feed = changes_since(warehouse, ITEMS, basis.tables[ITEMS.name], now)
    counted(ITEMS, feed, F.count("*"))
    items = last_changes(feed, "item_id").where(F.col(KIND).isin(*COMES)).drop(KIND).persist()
    try:
        present = embeddings_of(warehouse, items, encoder)
        limits = media_limits(settings.encoder, settings.path)
        return write_embeddings(
            warehouse, items, present, encoder, settings.encoder, limits=limits, replace_rejected=False
        )
    finally:
        items.unpersist()


def record_embedded(
    context: JobContext, job: str, seen: Mapping[str, Any], now: Any, encoder: Artifact, *, rejected: int
) -> None:
    """Records what the embeddings were made from, for the next run.

    Args:
        context: Context of the job.
        job: Name of the job.
        seen: Inputs of the run.
        now: State of ``items`` from which it embedded, from ``mark``.
        encoder: Encoder version.
        rejected: Number of items that it could not embed.
    """
    tables = {ITEMS.name: now, ITEM_EMBEDDINGS.name: mark(context.warehouse, ITEM_EMBEDDINGS)}
    facts = {"encoder": _made_by(encoder), "rejected": rejected}
    write_basis(context.settings, job, Basis(dict(seen), tables, facts))


def _made_by(encoder: Artifact) -> list[Any]:
    return [encoder.version, encoder.fingerprint]
