"""Item embeddings become semantic IDs under one codebook version.

In: ``item_embeddings`` of one encoder version, a fitted ``ResidualKMeansModel``. Out: rows of ``item_semantic_ids`` for the
items that have none under this codebook version yet: a semantic ID, once written, never moves. ::

    item_id  embedding           encoder_version      item_id  rq_codes      codebook_version
    1        [0.02, -0.11, ...]  0                ->  1        [17, 4, 201]  0
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from safetensors.numpy import load_file, save_file

from qarm_features.artifacts import Artifact
from qarm_features.quantizers import ResidualKMeansModel

_CODEBOOKS = "codebooks.safetensors"


def assign_semantic_ids(
    embeddings: DataFrame,
    assigned: DataFrame,
    *,
    model: ResidualKMeansModel,
    codebook_version: int,
    encoder_version: int,
) -> DataFrame:
    """Assigns codes to the items that ``assigned`` does not hold under this codebook version.

    Args:
        embeddings: Rows of ``item_embeddings``.
        assigned: Rows of ``item_semantic_ids``.
        model: Codebooks (L, K, D), fitted on embeddings of the same encoder version.
        codebook_version: Written beside every code.
        encoder_version: Only its embeddings are read.

    Returns:
        Rows of ``item_semantic_ids``.
    """
    done = assigned.where(F.col("codebook_version") == codebook_version).select("item_id")
    new = embeddings.where(F.col("encoder_version") == encoder_version).join(done, on="item_id", how="left_anti")
    return model.transform(new).select(
        "item_id",
        "rq_codes",
        F.lit(codebook_version).alias("codebook_version"),
        F.lit(encoder_version).alias("encoder_version"),
        F.timestamp_seconds(F.lit(0)).alias("event_timestamp"),
    )


def save_codebooks(model: ResidualKMeansModel, folder: Path) -> None:
    """Writes codebooks (L, K, D) as safetensors."""
    save_file({"codebooks": np.ascontiguousarray(model.codebooks, dtype=np.float32)}, folder / _CODEBOOKS)


def load_codebooks(artifact: Artifact) -> ResidualKMeansModel:
    """Returns the model of a codebook version, from ``embedding`` to ``rq_codes``."""
    codebooks = load_file(artifact.verify().path / _CODEBOOKS)["codebooks"]
    return ResidualKMeansModel.from_codebooks(codebooks, inputCol="embedding", outputCol="rq_codes")
