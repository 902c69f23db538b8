"""Item embeddings become semantic IDs under one codebook version.

In: ``item_embeddings`` of one encoder version, a fitted ``ResidualKMeansModel``. Out: rows of ``item_semantic_ids`` for the
items that have none under this codebook version yet: a semantic ID, once written, never moves. ::

    item_id  embedding           encoder_version      item_id  rq_codes      codebook_version  collision_index
    1        [0.02, -0.11, ...]  0                ->  1        [17, 4, 201]  0                 0
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from safetensors.numpy import load_file, save_file

from qarm_features.artifacts import Artifact
from qarm_features.codebook_refit import kept_codes
from qarm_features.collisions import resolve_overflow, with_collision_index
from qarm_features.quantizers import ResidualKMeansModel

_CODEBOOKS, _REFIT = "codebooks.safetensors", "refit.safetensors"


class OldIDs(NamedTuple):
    """Semantic IDs of the version that codebooks were refitted from, which items may keep.

    Attributes:
        rows: ``item_id``, ``rq_codes``, ``collision_index`` under that version.
        keep_limit: Most squared error that keeping may add to an item.
    """

    rows: DataFrame
    keep_limit: float


def assign_semantic_ids(
    embeddings: DataFrame,
    assigned: DataFrame,
    *,
    model: ResidualKMeansModel,
    codebook_version: int,
    encoder_version: int,
    old_ids: OldIDs | None = None,
    bucket_cap: int | None = None,
    most_extra: float = 0.0,
) -> DataFrame:
    """Assigns codes to the items that ``assigned`` does not hold under this codebook version.

    Args:
        embeddings: Rows of ``item_embeddings``.
        assigned: Rows of ``item_semantic_ids``.
        model: Codebooks (L, K, D), fitted on embeddings of the same encoder version.
        codebook_version: Written beside every code.
        encoder_version: Only its embeddings are read.
        old_ids: What items keep where it costs little; None gives all of them their nearest codes.
        bucket_cap: Most items of a semantic ID; None for no cap. See ``collisions.resolve_overflow``.
        most_extra: Most squared error that a move of the overflow may add to an item.

    Returns:
        Rows of ``item_semantic_ids``, with ``kept`` (the old ID) and ``moved`` (by the cap), both boolean.
    """
    assigned = assigned.where(F.col("codebook_version") == codebook_version)
    new = embeddings.where(F.col("encoder_version") == encoder_version).select("item_id", "embedding")
    new = new.join(assigned.select("item_id"), on="item_id", how="left_anti")
    new = _nearest_or_kept(new, model, old_ids)
    if bucket_cap is None:
        new = new.withColumn("moved", F.lit(False))
    else:
        new = resolve_overflow(new, assigned, model.codebooks, bucket_cap=bucket_cap, most_extra=most_extra)
    stays = F.when(F.col("kept") & ~F.col("moved"), F.col("old_index"))
    new = new.drop("embedding").withColumn("old_index", stays)
    return with_collision_index(new, assigned, keep_order="old_index").select(
        "item_id",
        "rq_codes",
        F.lit(codebook_version).alias("codebook_version"),
        F.lit(encoder_version).alias("encoder_version"),
        F.timestamp_seconds(F.lit(0)).alias("event_timestamp"),
        "collision_index",
        "kept",
        "moved",
    )


def _nearest_or_kept(new: DataFrame, model: ResidualKMeansModel, old_ids: OldIDs | None) -> DataFrame:
    """Adds ``rq_codes``, ``kept`` and ``old_index``."""
    if old_ids is None:
        rows = model.transform(new)
        return rows.withColumns({"kept": F.lit(False), "old_index": F.lit(None).cast("int")})
    old = old_ids.rows.select(
        "item_id", F.col("rq_codes").alias("old_codes"), F.col("collision_index").alias("old_index")
    )
    rows = model.transform(new.join(old, on="item_id", how="left"))
    rows = rows.withColumn("rq_codes", kept_codes(model.codebooks, old_ids.keep_limit))
    kept = F.coalesce(F.col("rq_codes") == F.col("old_codes"), F.lit(False))
    return rows.withColumn("kept", kept).drop("old_codes")


def save_codebooks(codebooks: np.ndarray, folder: Path, new_code: np.ndarray | None = None) -> None:
    """Writes codebooks (L, K, D) as safetensors, and of a refit the new code (L, K) of every old one."""
    save_file({"codebooks": np.ascontiguousarray(codebooks, dtype=np.float32)}, folder / _CODEBOOKS)
    if new_code is not None:
        save_file({"new_code": np.ascontiguousarray(new_code, dtype=np.int32)}, folder / _REFIT)


def load_codebooks(artifact: Artifact) -> ResidualKMeansModel:
    """Returns the model of a codebook version, from ``embedding`` to ``rq_codes``."""
    codebooks = load_file(artifact.verify().path / _CODEBOOKS)["codebooks"]
    return ResidualKMeansModel.from_codebooks(codebooks, inputCol="embedding", outputCol="rq_codes")
