"""Assigns semantic IDs.

In: ``item_embeddings``, codebooks. Out: ``item_semantic_ids``.
"""

from __future__ import annotations

from typing import Annotated

import typer
from pyspark.sql import functions as F

from qarm_features.jobs.cautions import shared_codes
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext, current_codebooks, existing_version
from qarm_features.jobs.job import Counts, job
from qarm_features.semantic_ids.append_ids import append_new_ids
from qarm_features.semantic_ids.assign import level_sizes
from qarm_features.storage.conditional_writes import again_if_changed
from qarm_features.storage.deleting import delete_deleted_items
from qarm_features.storage.origins import require_embeddings_of, require_same_origin
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS


@job(
    after="fit-codebooks",
    reads=("item_embeddings", "deleted_items", "codebooks/"),
    writes=("item_semantic_ids",),
    settings=(*ENCODER_SETTINGS, "codebooks", "semantic_ids"),
)
def assign_semantic_ids(
    context: JobContext,
    codebook_version: Annotated[
        int | None, typer.Option(help="Codebook version to use; the newest by default.")
    ] = None,
) -> Counts:
    """Assigns a semantic ID to every item that has none under this codebook version.

    An item that has one keeps it until the catalog says that the item is deleted. After a refit an item also keeps the
    semantic ID of the version before, if that adds little to its error. The setting semantic_ids.bucket_cap limits how many
    items share a semantic ID.
    """
    codebooks, warehouse = current_codebooks(context, codebook_version), context.warehouse
    manifest = codebooks.manifest
    delta_version = existing_version(warehouse, ITEM_EMBEDDINGS)
    require_same_origin(warehouse, ITEM_SEMANTIC_IDS, codebooks)
    require_embeddings_of(warehouse, codebooks, version=delta_version)
    embeddings = warehouse.read(ITEM_EMBEDDINGS, version=delta_version)
    found = again_if_changed(lambda: append_new_ids(warehouse, codebooks, embeddings, context.settings.semantic_ids))
    gone = delete_deleted_items(warehouse, ITEM_SEMANTIC_IDS)
    encoded = embeddings.where(F.col("encoder_version") == manifest["encoder_version"])
    rows_in = encoded.count()
    remark = f"{found['rows']} semantic IDs assigned by codebooks v{codebooks.version}"
    if manifest.get("refit"):
        remark += f", {found['kept']} kept from v{manifest['refit']['of']}"
    if context.settings.semantic_ids.bucket_cap:
        remark += f", {found['moved']} moved"
    if gone:
        remark += f"; {gone:,} semantic IDs of deleted items deleted"
    codes = warehouse.read_or_empty(ITEM_SEMANTIC_IDS).where(F.col("codebook_version") == codebooks.version)
    size = level_sizes(manifest)[0]
    warnings = shared_codes(codes, encoded, codebook_size=size) if found["rows"] else []
    return Counts(rows_in, rows_in, 0, remark, tuple(warnings))
