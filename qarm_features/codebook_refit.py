"""A refit that most items do not notice: the catalog moved on, yet nearly all semantic IDs stay and the error falls.

In: embeddings as they are now, codebooks (L, K, D) and semantic IDs as they were. Out: new codebooks, relabelled, and how
many items keep their codes. Four steps:

1. Warm start: a few Lloyd steps from the last codebooks on.
2. Relabel: centroids are permuted, level by level, so that most items keep their code. A level counts first the items that
   kept all codes before: so children move with their parents. The centroids of a level serve all prefixes, hence a
   permutation is all there is to choose, and it moves no residual.
3. Keep: an item keeps its old semantic ID where that costs little, see ``keep_codes``.
4. Joint update: with codes held, each codebook becomes the mean of what all *other* levels leave over, earlier and later.

Source: Lloyd; additive quantization, Babenko, Lempitsky, CVPR 2014, for the joint update.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import ArrayType, IntegerType

from qarm_features.code_errors import matrix, residual_errors, sum_errors
from qarm_features.code_matching import code_transitions, relabelling
from qarm_features.codebook_updates import update_level
from qarm_features.quantizers import ResidualKMeans, ResidualKMeansModel

WARM_STEPS = 3  # Lloyd steps of a level; more move items for little error
_ROUNDS = 2  # of keep and joint update; more lower the error, but the first levels drift from what they were


class Refit(NamedTuple):
    """What a refit made.

    Attributes:
        codebooks: (L, K, D) float32.
        keep_limit: The extra squared error up to which an item keeps its old semantic ID.
        new_code: (L, K) int32, the code that most items of an old code have now, -1 where it had none.
        levels: Per level what ``ResidualKMeansModel.training_summary`` holds.
        kept: ``items`` common to both, ``levels`` (shares of them with an unchanged code, L) and ``semantic_ids`` (share).
    """

    codebooks: np.ndarray
    keep_limit: float
    new_code: np.ndarray
    levels: list[dict[str, Any]]
    kept: dict[str, Any]


def refit_codebooks(
    embeddings: DataFrame,
    old_ids: DataFrame,
    estimator: ResidualKMeans,
    *,
    old_codebooks: np.ndarray | None,
    keep_within: float,
) -> Refit:
    """Refits codebooks so that most items keep their semantic ID.

    Args:
        embeddings: ``item_id``, ``embedding`` (D) of about unit norm, all items.
        old_ids: ``item_id``, ``rq_codes`` under the last codebook version.
        estimator: Of the same L and K; its maxIter is used where there is no warm start.
        old_codebooks: (L, K, D) of the same encoder, to start from; None fits from nothing and still relabels.
        keep_within: See ``keep_codes``, as a share of the mean squared error.
    """
    old = old_ids.select("item_id", F.col("rq_codes").alias("old_codes"))
    rows = embeddings.select("item_id", "embedding").join(old, on="item_id", how="left").drop("item_id")
    if old_codebooks is not None:
        fitted = estimator.copy({estimator.maxIter: WARM_STEPS}).fit_from(embeddings, old_codebooks)
    else:
        fitted = estimator.fit(embeddings)
    last = fitted.training_summary[-1]
    limit = keep_within * last["sse"] / last["weight"]
    codebooks = _relabelled(rows, fitted)
    for _ in range(_ROUNDS):
        coded = _coded(rows, codebooks, limit).persist()
        for level in range(len(codebooks)):
            codebooks = update_level(coded, codebooks, level)
        coded.unpersist()
    coded = _coded(rows, codebooks, limit).persist()
    levels = measured_levels(coded, codebooks, fitted.training_summary)
    common = coded.where(F.col("old_codes").isNotNull())
    new_code, kept = code_transitions(common, num_levels=len(codebooks), codebook_size=codebooks.shape[1])
    coded.unpersist()
    return Refit(codebooks, limit, new_code, levels, kept)


def keep_codes(
    embeddings: np.ndarray, nearest: np.ndarray, old: np.ndarray, codebooks: np.ndarray, limit: float
) -> np.ndarray:
    """Lets rows keep their old codes where these decode nearly as well as the nearest ones.

    Args:
        embeddings: (B, D) float32.
        nearest: (B, L) int32, codes that ``assign_codes`` gives.
        old: (B, L) int32, codes of the last version in its labels.
        codebooks: (L, K, D) float32, new, relabelled.
        limit: Most squared error that keeping may add to a row, at least 0. So the mean error rises by no more.

    Returns:
        (B, L) int32.
    """
    kept = residual_errors(embeddings, old, codebooks)[:, -1]
    best = residual_errors(embeddings, nearest, codebooks)[:, -1]
    return np.where((kept <= best + limit)[:, None], old, nearest)


def kept_codes(codebooks: np.ndarray, limit: float) -> Column:
    """Returns the column of ``keep_codes`` from ``embedding``, ``rq_codes`` (nearest) and ``old_codes``, null where none."""

    @arrow_udf(ArrayType(IntegerType()))
    def codes(embedding: pa.Array, nearest: pa.Array, old: pa.Array) -> pa.Array:
        given, found = matrix(nearest, np.int32).copy(), np.flatnonzero(old.is_valid())
        if len(found):
            rows = matrix(embedding)[found]
            given[found] = keep_codes(rows, given[found], matrix(old.drop_null(), np.int32), codebooks, limit)
        offsets = np.arange(len(given) + 1, dtype=np.int32) * len(codebooks)
        return pa.ListArray.from_arrays(offsets, given.ravel())

    return codes("embedding", "rq_codes", "old_codes")


def _coded(rows: DataFrame, codebooks: np.ndarray, limit: float) -> DataFrame:
    nearest = ResidualKMeansModel.from_codebooks(codebooks).transform(rows)
    return nearest.withColumn("rq_codes", kept_codes(codebooks, limit))


def _relabelled(rows: DataFrame, fitted: ResidualKMeansModel) -> np.ndarray:
    codes = fitted.transform(rows.where(F.col("old_codes").isNotNull())).select("old_codes", "rq_codes").persist()
    labels = relabelling(codes, level_sizes=fitted.level_sizes)
    codes.unpersist()
    codebooks = fitted.codebooks.copy()
    for level, of_level in enumerate(labels):
        codebooks[level, of_level] = fitted.codebooks[level, : len(of_level)]
    return codebooks


def measured_levels(coded: DataFrame, codebooks: np.ndarray, fitted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replaces figures of a fit by those of the codes that items have in the end, each item counted once.

    Args:
        coded: ``embedding`` (D) of about unit norm, ``rq_codes`` (L).
        codebooks: (L, K, D) float32.
        fitted: Per level what ``ResidualKMeansModel.training_summary`` holds.
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
