"""Semantic IDs are written to their table: those of new items are appended, and a row that stands there stays.

In: ``item_embeddings``, a codebook version. Out: rows of ``item_semantic_ids``, in one commit that fails if another process
assigned IDs of these codebooks in between. Only on request are items of changed content assigned anew.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from qarm_features.quantizers.code_columns import codes_beside
from qarm_features.semantic_ids.assign import OldIDs, assign_semantic_ids, load_codebooks
from qarm_features.settings.codes import SemanticIDs
from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
from qarm_features.storage.warehouse import Warehouse


def append_new_ids(warehouse: Warehouse, codebooks: Artifact, embeddings: DataFrame, settings: SemanticIDs) -> Row:
    """Assign the items that have no semantic ID under these codebooks, and append the IDs.

    Args:
        warehouse: Tables of the project.
        codebooks: Codebook version.
        embeddings: Rows of ``item_embeddings``: of all items, or of those that may lack a semantic ID.
        settings: Section ``semantic_ids`` of the settings.

    Returns:
        The number of ``rows`` that were assigned, of ``kept`` and of ``moved`` ones.

    Raises:
        ChangedMeanwhile: Another process assigned semantic IDs of these codebooks in between.
    """
    manifest = codebooks.manifest
    base = warehouse.base(ITEM_SEMANTIC_IDS, {"codebook_version": codebooks.version})
    assigned = warehouse.read_base(ITEM_SEMANTIC_IDS, base)
    refit, old_ids = manifest.get("refit"), None
    if refit:
        old_ids = OldIDs(assigned.where(F.col("codebook_version") == refit["of"]), refit["keep_limit"])
    new = _assigned(codebooks, embeddings, assigned, settings, old_ids).persist()
    try:
        counts = [F.count("*").alias("rows"), F.count_if("kept").alias("kept"), F.count_if("moved").alias("moved")]
        found: Row = new.agg(*counts).collect()[0]
        if found["rows"]:
            warehouse.append(ITEM_SEMANTIC_IDS, new, base=base)
        return found
    finally:
        new.unpersist()


def reassign_ids(
    warehouse: Warehouse, codebooks: Artifact, embeddings: DataFrame, settings: SemanticIDs, *, since: int
) -> int:
    """Give items of changed content the semantic IDs of their new embeddings, in place of those that they have.

    An item whose nearest codes are those that it has keeps its row. A second call with the same arguments changes nothing.

    Args:
        warehouse: Tables of the project.
        codebooks: Codebook version.
        embeddings: Rows of ``item_embeddings`` of the items whose content has changed.
        settings: Section ``semantic_ids`` of the settings.
        since: Delta version of ``item_semantic_ids`` from before the change, from which the new rows are computed.

    Returns:
        Number of items that got another semantic ID.
    """
    version = F.col("codebook_version") == codebooks.version
    before = warehouse.read(ITEM_SEMANTIC_IDS, version=since).where(version)
    own = embeddings.where(F.col("encoder_version") == codebooks.manifest["encoder_version"])
    nearest = codes_beside(load_codebooks(codebooks), own.select("item_id", "embedding"), "item_id")
    old = before.select("item_id", F.col("rq_codes").alias("old_codes"))
    differing = nearest.join(old, on="item_id", how="inner").where(F.col("rq_codes") != F.col("old_codes"))
    moving = differing.select("item_id").persist()
    try:
        count = moving.count()
        if count:
            staying = before.join(moving, on="item_id", how="left_anti")
            rows = _assigned(
                codebooks, own.join(moving, on="item_id", how="left_semi"), staying, settings, None
            ).persist()
            warehouse.upsert(ITEM_SEMANTIC_IDS, rows, part={"codebook_version": codebooks.version})
            rows.unpersist()
        return count
    finally:
        moving.unpersist()


def _assigned(
    codebooks: Artifact, embeddings: DataFrame, assigned: DataFrame, settings: SemanticIDs, old_ids: OldIDs | None
) -> DataFrame:
    manifest = codebooks.manifest
    last = manifest["levels"][-1]
    new = assign_semantic_ids(
        embeddings,
        assigned,
        model=load_codebooks(codebooks),
        codebook_version=codebooks.version,
        encoder_version=manifest["encoder_version"],
        old_ids=old_ids,
        bucket_cap=settings.bucket_cap,
        most_extra=settings.error_budget * last["sse"] / last.get("weight", last["rows"]),
    )
    return new.withColumn("codebook_fingerprint", F.lit(codebooks.fingerprint))
