"""Assignment of semantic IDs under one codebook version.

In: ``item_embeddings`` of one encoder version, and a fitted model. Out: rows of ``item_semantic_ids`` for the items that have
none under this codebook version yet. A semantic ID never changes after it is written. ::

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
    """Semantic IDs of the version from which the codebooks were refitted, which items may keep.

    Attributes:
        rows: Rows of ``item_id``, ``rq_codes`` and ``collision_index`` under that version.
        keep_limit: Squared error that an old semantic ID may add to an item, at least 0.
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
    """Assign codes to the items that ``assigned`` does not hold under this codebook version.

    Args:
        embeddings: Rows of ``item_embeddings``.
        assigned: Rows of ``item_semantic_ids``.
        model: Model that was fitted on embeddings of the same encoder version.
        codebook_version: Codebook version, which is written beside every code.
        encoder_version: Encoder version of the embeddings to read, which is written beside every code.
        old_ids: Semantic IDs that items keep if they add little error; None gives all items their nearest codes.
        bucket_cap: Maximal number of items per semantic ID, at least 1; None for no cap. See
            ``collisions.resolve_overflow``.
        most_extra: Squared error that a move out of a full bucket may add to an item, at least 0.

    Returns:
        Rows of ``item_semantic_ids``, with the booleans ``kept`` (the item keeps its old ID) and ``moved`` (the cap
        moved it).
    """
    assigned = assigned.where(F.col("codebook_version") == codebook_version)
    new = embeddings.where(F.col("encoder_version") == encoder_version).select("item_id", "embedding")
    is_later = not assigned.isEmpty()
    if is_later:
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
        F.lit(is_later).alias("added_after_fit"),
        "kept",
        "moved",
    )


def _nearest_or_kept(new: DataFrame, model: RQModel, old_ids: OldIDs | None, *, keep_embeddings: bool) -> DataFrame:
    """Add ``rq_codes``, ``kept`` and ``old_index`` (the collision index under the old ID, null if there is none)."""
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
    """Write codebooks as safetensors.

    Args:
        codebooks: Codebooks (L, K, D) of all levels; smaller levels end in rows of NaN.
        folder: Existing folder to write to.
        new_code: New code (L, K) of every old code, for codebooks of a refit.
        model_arrays: Further arrays from which the model is restored, see ``RQModel.to_arrays``.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in (model_arrays or {}).items()}
    save_file(arrays | {"codebooks": np.ascontiguousarray(codebooks, dtype=np.float32)}, folder / _CODEBOOKS)
    if new_code is not None:
        save_file({"new_code": np.ascontiguousarray(new_code, dtype=np.int32)}, folder / _REFIT)


def save_model(model: RQModel, folder: Path, *, new_code: np.ndarray | None = None) -> None:
    """Write a model so that ``load_codebooks`` can read it.

    Args:
        model: Model to write.
        folder: Existing folder to write to.
        new_code: New code (L, K) of every old code, for a model of a refit.
    """
    save_codebooks(model.codebooks, folder, new_code=new_code, model_arrays=model.to_arrays())


def load_codebooks(artifact: Artifact) -> RQModel:
    """Return the model of a codebook version, which adds ``rq_codes`` to ``embedding``."""
    arrays = load_file(artifact.verify().path / _CODEBOOKS)
    if "projection" in arrays:  # only finite scalar quantization has one
        return ResidualKMeansFiniteScalarModel.from_arrays(arrays, inputCol="embedding", outputCol="rq_codes")
    return ResidualKMeansModel.from_arrays(arrays, inputCol="embedding", outputCol="rq_codes")


def level_sizes(manifest: dict[str, Any]) -> list[int]:
    """Return the number of codes K of each level of a codebook version.

    Args:
        manifest: Manifest of the codebook version. Old ones have no ``level_sizes``, but no fsq level either, which could
            have fewer codes than its ``codebook_size``.

    Example:
        >>> level_sizes({"codebook_size": 256, "num_levels": 3})
        [256, 256, 256]
    """
    if "level_sizes" in manifest:
        return list(manifest["level_sizes"])
    size = manifest["codebook_size"]
    return list(size) if isinstance(size, list) else [size] * manifest["num_levels"]
