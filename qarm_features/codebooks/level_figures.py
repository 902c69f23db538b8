"""What a fit leaves over, level by level, as a codebook version's manifest tells it.

In: a fitted model, or the codes that items have in the end. Out: per level what ``ResidualKMeansModel.training_summary``
holds: ``sse``, ``relative_error``, ``weight``, ``codes_in_use`` and how it was fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.codebooks.errors import sum_errors
from qarm_features.quantizers.rq_models import RQModel


def fitted_levels(model: RQModel, embeddings: DataFrame) -> list[dict[str, Any]]:
    """Returns figures of a fit.

    Args:
        model: As an estimator returned it.
        embeddings: ``embedding`` (D) of about unit norm, what it was fitted to. Where the last level is fsq, the errors
            and the codes in use are counted over all of them in one more pass, each item once.
    """
    levels = model.level_figures()
    if all("sse" in level for level in levels):
        return levels
    coded = model.transform(embeddings.select("embedding")).select("embedding", "rq_codes")
    return measured_levels(coded, model.codebooks, levels)


def measured_levels(coded: DataFrame, codebooks: np.ndarray, fitted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replaces figures of a fit by those of the codes that items have in the end, each item counted once.

    Args:
        coded: ``embedding`` (D) of about unit norm, ``rq_codes`` (L).
        codebooks: (L, K, D) float32.
        fitted: Per level what `fitted_levels` returns.
    """
    sums, _ = sum_errors(coded, codebooks)
    codes = coded.select(F.posexplode("rq_codes").alias("level", "code")).groupBy("level")
    in_use = {row["level"]: row["codes"] for row in codes.agg(F.count_distinct("code").alias("codes")).collect()}
    return [
        {
            **level,
            "sse": float(error),
            "relative_error": float(error) / sums.energy if sums.energy else 0.0,
            "weight": float(sums.weight),
            "codes_in_use": in_use[level["level"]],
        }
        for level, error in zip(fitted, sums.errors)
    ]
