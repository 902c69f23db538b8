"""The figures of each level in the manifest of a codebook version.

In: a fitted model, or the codes that items have after a refit. Out: one dict per level, with ``sse``, ``relative_error``,
``weight``, ``codes_in_use`` and what the fit found, see ``fit_levels``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.codebooks.errors import sum_errors
from qarm_features.quantizers.rq_models import RQModel


def fitted_levels(model: RQModel, embeddings: DataFrame) -> list[dict[str, Any]]:
    """Return the figures of a fit.

    Args:
        model: Model as an estimator returned it.
        embeddings: Rows of ``embedding`` (D) of about unit norm, to which the model was fitted. If the fit counted no errors,
            as for an fsq level, one further pass counts them and the codes in use, each item once.
    """
    levels = model.level_figures()
    if all("sse" in level for level in levels):
        return levels
    coded = model.transform(embeddings.select("embedding")).select("embedding", "rq_codes")
    return measured_levels(coded, model.codebooks, levels)


def measured_levels(coded: DataFrame, codebooks: np.ndarray, fitted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace the figures of a fit by those of given codes, with each item counted once.

    Args:
        coded: Rows of ``embedding`` (D) of about unit norm and ``rq_codes`` (L).
        codebooks: Codebooks (L, K, D) float32.
        fitted: Figures of the fit, one dict per level.
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
