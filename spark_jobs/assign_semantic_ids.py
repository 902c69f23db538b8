"""item_embeddings, codebooks -> item_semantic_ids."""

from __future__ import annotations

from typing import Annotated

import typer
from pyspark.sql import functions as F

from qarm_features.semantic_ids import assign_semantic_ids as assign
from qarm_features.semantic_ids import load_codebooks
from qarm_features.tables import ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS
from spark_jobs.session import Counts, JobContext, current_codebooks, job, main


@job(
    after="fit-codebooks",
    reads=("item_embeddings", "codebooks/"),
    writes=("item_semantic_ids",),
    settings=("encoder", "codebooks", "seed"),
)
def assign_semantic_ids(
    context: JobContext,
    codebook_version: Annotated[int | None, typer.Option(help="Codebooks to use; by default the newest.")] = None,
) -> Counts:
    """Gives a semantic ID to every item that has none under this codebook version; those that have one keep it."""
    warehouse = context.warehouse
    codebooks = current_codebooks(context, codebook_version)
    embeddings, assigned = warehouse.read(ITEM_EMBEDDINGS), warehouse.read_or_empty(ITEM_SEMANTIC_IDS)
    encoder_version = codebooks.manifest["encoder_version"]
    new = assign(
        embeddings,
        assigned,
        model=load_codebooks(codebooks),
        codebook_version=codebooks.version,
        encoder_version=encoder_version,
    ).persist()
    rows_in, rows_new = embeddings.where(F.col("encoder_version") == encoder_version).count(), new.count()
    if rows_new:
        warehouse.append(ITEM_SEMANTIC_IDS, new)
    new.unpersist()
    return Counts(rows_in, rows_in, 0, f"{rows_new} semantic IDs assigned by codebooks v{codebooks.version}")


if __name__ == "__main__":
    main(assign_semantic_ids)
