"""Item embeddings become semantic IDs under one codebook version.

In: ``item_embeddings`` of one encoder version, a fitted ``ResidualKMeansModel``. Out: rows of ``item_semantic_ids`` for the
items that have none under this codebook version yet: a semantic ID, once written, never moves. ::

    item_id  embedding           encoder_version      item_id  rq_codes      codebook_version  collision_index
    1        [0.02, -0.11, ...]  0                ->  1        [17, 4, 201]  0                 0
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from safetensors.numpy import load_file, save_file

from qarm_features.codebooks.refit import kept_codes
from qarm_features.quantizers import ResidualKMeansFiniteScalarModel, ResidualKMeansModel
from qarm_features.quantizers.code_columns import codes_beside
from qarm_features.quantizers.rq_models import RQModel
from qarm_features.semantic_ids.collisions import resolve_overflow, with_collision_index
from qarm_features.storage.artifacts import Artifact

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
    model: RQModel,
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
    if not assigned.isEmpty():
        new = new.join(assigned.select("item_id"), on="item_id", how="left_anti")
    new = _nearest_or_kept(new, model, old_ids, keep_embeddings=bucket_cap is not None)
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


def _nearest_or_kept(new: DataFrame, model: RQModel, old_ids: OldIDs | None, *, keep_embeddings: bool) -> DataFrame:
    """Adds ``rq_codes``, ``kept`` and ``old_index``."""
    if old_ids is None:
        rows = model.transform(new) if keep_embeddings else codes_beside(model, new, "item_id")
        return rows.withColumns({"kept": F.lit(False), "old_index": F.lit(None).cast("int")})
    old = old_ids.rows.select(
        "item_id", F.col("rq_codes").alias("old_codes"), F.col("collision_index").alias("old_index")
    )
    rows = model.transform(new.join(old, on="item_id", how="left"))
    rows = rows.withColumn("rq_codes", kept_codes(model.codebooks, old_ids.keep_limit))
    kept = F.coalesce(F.col("rq_codes") == F.col("old_codes"), F.lit(False))
    return rows.withColumn("kept", kept).drop("old_codes")


def save_codebooks(
    codebooks: np.ndarray,
    folder: Path,
    *,
    new_code: np.ndarray | None = None,
    model_arrays: dict[str, np.ndarray] | None = None,
) -> None:
    """Writes codebooks as safetensors.

    Args:
        codebooks: (L, K, D), every level, smaller ones padded with NaN.
        folder: Where to.
        new_code: Of a refit, the new code (L, K) of every old one.
        model_arrays: Further arrays from which the model is restored, see ``RQModel.to_arrays``.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in (model_arrays or {}).items()}
    save_file(arrays | {"codebooks": np.ascontiguousarray(codebooks, dtype=np.float32)}, folder / _CODEBOOKS)
    if new_code is not None:
        save_file({"new_code": np.ascontiguousarray(new_code, dtype=np.int32)}, folder / _REFIT)


def save_model(model: RQModel, folder: Path, *, new_code: np.ndarray | None = None) -> None:
    """Writes what `load_codebooks` reads; new_code as of `save_codebooks`."""
    save_codebooks(model.codebooks, folder, new_code=new_code, model_arrays=model.to_arrays())


def load_codebooks(artifact: Artifact) -> RQModel:
    """Returns the model of a codebook version, from ``embedding`` to ``rq_codes``."""
    arrays, columns = load_file(artifact.verify().path / _CODEBOOKS), {"inputCol": "embedding", "outputCol": "rq_codes"}
    kind = ResidualKMeansFiniteScalarModel if "projection" in arrays else ResidualKMeansModel
    return kind.from_arrays(arrays, **columns)


def level_sizes(manifest: dict[str, Any]) -> list[int]:
    """Returns K of each level of a codebook version from its manifest."""
    size = manifest["codebook_size"]
    uniform = size if isinstance(size, list) else [size] * manifest["num_levels"]
    return manifest.get("level_sizes", uniform)  # an fsq level has fewer codes than it may have
