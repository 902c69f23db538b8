"""item_embeddings, codebooks -> item_semantic_ids."""

from __future__ import annotations

from typing import Annotated

import typer
from pyspark.sql import functions as F

from qarm_features.jobs.context import JobContext, current_codebooks
from qarm_features.jobs.job import Counts, job
from qarm_features.semantic_ids.assign import OldIDs, load_codebooks
from qarm_features.semantic_ids.assign import assign_semantic_ids as assign
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS


@job(
    after="fit-codebooks",
    reads=("item_embeddings", "codebooks/"),
    writes=("item_semantic_ids",),
    settings=("encoder", "codebooks", "seed", "semantic_ids"),
)
def assign_semantic_ids(
    context: JobContext,
    codebook_version: Annotated[int | None, typer.Option(help="Codebooks to use; by default the newest.")] = None,
) -> Counts:
    """Gives a semantic ID to every item that has none under this codebook version; those that have one keep it. After a
    refit items keep the ID of the version before where that costs little; semantic_ids.bucket_cap moves what is too much."""
    warehouse, settings = context.warehouse, context.settings.semantic_ids
    codebooks = current_codebooks(context, codebook_version)
    embeddings, assigned = warehouse.read(ITEM_EMBEDDINGS), warehouse.read_or_empty(ITEM_SEMANTIC_IDS)
    manifest = codebooks.manifest
    refit, last = manifest.get("refit"), manifest["levels"][-1]
    old_ids = refit and OldIDs(assigned.where(F.col("codebook_version") == refit["of"]), refit["keep_limit"])
    new = assign(
        embeddings,
        assigned,
        model=load_codebooks(codebooks),
        codebook_version=codebooks.version,
        encoder_version=manifest["encoder_version"],
        old_ids=old_ids,
        bucket_cap=settings.bucket_cap,
        most_extra=settings.error_budget * last["sse"] / last.get("weight", last["rows"]),
    ).persist()
    counts = [F.count("*").alias("rows"), F.count_if("kept").alias("kept"), F.count_if("moved").alias("moved")]
    found = new.agg(*counts).first()
    rows_in = embeddings.where(F.col("encoder_version") == manifest["encoder_version"]).count()
    if found["rows"]:
        warehouse.append(ITEM_SEMANTIC_IDS, new)
    new.unpersist()
    remark = f"{found['rows']} semantic IDs assigned by codebooks v{codebooks.version}"
    remark += f", {found['kept']} kept from v{refit['of']}" if refit else ""
    return Counts(rows_in, rows_in, 0, remark + (f", {found['moved']} moved" if settings.bucket_cap else ""))
