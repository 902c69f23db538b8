"""Assigns semantic IDs.

In: ``item_embeddings``, codebooks. Out: ``item_semantic_ids``.
"""

from __future__ import annotations

from typing import Annotated

import typer
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from qarm_features.jobs.cautions import shared_codes
from qarm_features.jobs.context import JobContext, current_codebooks, existing_version
from qarm_features.jobs.job import Counts, job
from qarm_features.semantic_ids.assign import OldIDs, level_sizes, load_codebooks
from qarm_features.semantic_ids.assign import assign_semantic_ids as assign
from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.conditional_writes import again_if_changed
from qarm_features.storage.origins import require_embeddings_of, require_same_origin
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS


@job(
    after="fit-codebooks",
    reads=("item_embeddings", "codebooks/"),
    writes=("item_semantic_ids",),
    settings=("encoder", "codebooks", "seed", "semantic_ids"),
)
def assign_semantic_ids(
    context: JobContext,
    codebook_version: Annotated[
        int | None, typer.Option(help="Codebook version to use; the newest by default.")
    ] = None,
) -> Counts:
    """Assigns a semantic ID to every item that has none under this codebook version.

    An item that has one keeps it. After a refit an item also keeps the semantic ID of the version before, if that adds
    little to its error. The setting semantic_ids.bucket_cap limits how many items share a semantic ID.
    """
    codebooks, warehouse = current_codebooks(context, codebook_version), context.warehouse
    manifest = codebooks.manifest
    delta_version = existing_version(warehouse, ITEM_EMBEDDINGS)
    require_same_origin(warehouse, ITEM_SEMANTIC_IDS, codebooks)
    require_embeddings_of(warehouse, codebooks, version=delta_version)
    embeddings = warehouse.read(ITEM_EMBEDDINGS, version=delta_version)
    found = again_if_changed(lambda: _assign_new(context, codebooks, embeddings))
    encoded = embeddings.where(F.col("encoder_version") == manifest["encoder_version"])
    rows_in = encoded.count()
    remark = f"{found['rows']} semantic IDs assigned by codebooks v{codebooks.version}"
    if manifest.get("refit"):
        remark += f", {found['kept']} kept from v{manifest['refit']['of']}"
    if context.settings.semantic_ids.bucket_cap:
        remark += f", {found['moved']} moved"
    codes = warehouse.read_or_empty(ITEM_SEMANTIC_IDS).where(F.col("codebook_version") == codebooks.version)
    size = level_sizes(manifest)[0]
    warnings = shared_codes(codes, encoded, codebook_size=size) if found["rows"] else []
    return Counts(rows_in, rows_in, 0, remark, tuple(warnings))


def _assign_new(context: JobContext, codebooks: Artifact, embeddings: DataFrame) -> Row:
    """Assigns the items that have no semantic ID, and returns the number of ``rows``, of ``kept`` and of ``moved`` ones.

    Raises:
        ChangedMeanwhile: Another process assigned semantic IDs of these codebooks in between.
    """
    warehouse, settings, manifest = context.warehouse, context.settings.semantic_ids, codebooks.manifest
    base = warehouse.base(ITEM_SEMANTIC_IDS, {"codebook_version": codebooks.version})
    assigned = warehouse.read_base(ITEM_SEMANTIC_IDS, base)
    refit, last = manifest.get("refit"), manifest["levels"][-1]
    old_ids = None
    if refit:
        old_ids = OldIDs(assigned.where(F.col("codebook_version") == refit["of"]), refit["keep_limit"])
    new = assign(
        embeddings,
        assigned,
        model=load_codebooks(codebooks),
        codebook_version=codebooks.version,
        encoder_version=manifest["encoder_version"],
        old_ids=old_ids,
        bucket_cap=settings.bucket_cap,
        most_extra=settings.error_budget * last["sse"] / last.get("weight", last["rows"]),
    )
    new = new.withColumn("codebook_fingerprint", F.lit(codebooks.fingerprint)).persist()
    try:
        counts = [F.count("*").alias("rows"), F.count_if("kept").alias("kept"), F.count_if("moved").alias("moved")]
        found: Row = new.agg(*counts).collect()[0]
        if found["rows"]:
            warehouse.append(ITEM_SEMANTIC_IDS, new, base=base)
        return found
    finally:
        new.unpersist()
