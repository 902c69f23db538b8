"""A refit that most items do not notice: the catalog moved on, yet nearly all semantic IDs stay and the error falls.

In: embeddings as they are now, codebooks (L, K, D) and semantic IDs as they were. Out: new codebooks, relabeled, and how
many items keep their codes. Four steps:

1. Warm start: a few Lloyd steps from the last codebooks on; an fsq level keeps its axes.
2. Relabel: centroids are permuted, level by level, so that most items keep their code. A level counts first the items that
   kept all codes before: so children move with their parents. The centroids of a level serve all prefixes, hence a
   permutation is all there is to choose, and it moves no residual.
3. Keep: an item keeps its old semantic ID where that costs little, see ``keep_codes``.
4. Joint update: with codes held, each codebook becomes the mean of what all *other* levels leave over, earlier and later;
   so do the scalars of an fsq level. Items weigh as in the fit.

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

from qarm_features.codebooks.errors import matrix, residual_errors
from qarm_features.codebooks.joint_updates import WHOLE_WEIGHT, JointUpdates, with_whole_weights
from qarm_features.codebooks.level_figures import fitted_levels, measured_levels
from qarm_features.codebooks.relabeling import code_transitions, relabeling
from qarm_features.quantizers.arrays.codebooks import level_sizes
from qarm_features.quantizers.rq_models import RQEstimator, RQModel

WARM_STEPS = 3  # Lloyd steps of a level; more move items for little error
_ROUNDS = 2  # of keep and joint update; more lower the error, but the first levels drift from what they were


class Refit(NamedTuple):
    """What a refit made.

    Attributes:
        model: Codebooks (L, K, D), and the rounding where the last level is fsq.
        keep_limit: The extra squared error up to which an item keeps its old semantic ID.
        new_code: (L, K) int32, the code that most items of an old code have now, -1 where it had none.
        levels: As of `level_figures.measured_levels`.
        kept: ``items`` common to both, ``levels`` (shares of them with an unchanged code, L) and ``semantic_ids`` (share).
    """

    model: RQModel
    keep_limit: float
    new_code: np.ndarray
    levels: list[dict[str, Any]]
    kept: dict[str, Any]


def refit_codebooks(
    embeddings: DataFrame,
    old_ids: DataFrame,
    estimator: RQEstimator,
    *,
    old: RQModel | None,
    old_sizes: list[int],
    keep_within: float,
) -> Refit:
    """Refits codebooks so that most items keep their semantic ID.

    Args:
        embeddings: ``item_id``, ``embedding`` (D) of about unit norm, and what the estimator's weightCol names; all items.
        old_ids: ``item_id``, ``rq_codes`` under the last codebook version.
        estimator: Of the same kind, L and K; its maxIter is used where there is no warm start.
        old: The last codebook version, to start from; None, where it is of another encoder version, fits from nothing and
            relabels all levels but an fsq one.
        old_sizes: K of each of its levels.
        keep_within: See ``keep_codes``, as a share of the mean squared error of `level_figures.fitted_levels`.
    """
    weight = estimator.weight_name()
    rows = embeddings.select("item_id", "embedding")
    if weight is not None:
        rows = with_whole_weights(embeddings, weight).select("item_id", "embedding", WHOLE_WEIGHT)
    old_codes = old_ids.select("item_id", F.col("rq_codes").alias("old_codes"))
    rows = rows.join(old_codes, on="item_id", how="left").drop("item_id")
    if old is None:
        fitted: RQModel = estimator.fit(embeddings)
    else:
        fitted = estimator.fit_from(embeddings, old, max_iter=WARM_STEPS)
    levels = fitted_levels(fitted, embeddings)
    limit = keep_within * levels[-1]["sse"] / levels[-1]["weight"]
    model = _relabeled(rows, fitted)
    for _ in range(_ROUNDS):
        coded = _coded(rows, model, limit).persist()
        for level in range(len(levels)):
            model = model.renewed(level, JointUpdates(coded))
        coded.unpersist()
    coded = _coded(rows, model, limit).persist()
    levels = measured_levels(coded, model.codebooks, levels)
    common = coded.where(F.col("old_codes").isNotNull())
    new_code, kept = code_transitions(common, num_levels=len(levels), codebook_size=max(old_sizes))
    coded.unpersist()
    return Refit(model, limit, new_code, levels, kept)


def keep_codes(
    embeddings: np.ndarray, nearest: np.ndarray, old: np.ndarray, codebooks: np.ndarray, limit: float
) -> np.ndarray:
    """Lets rows keep their old codes where these decode nearly as well as the nearest ones.

    Args:
        embeddings: (B, D) float32.
        nearest: (B, L) int32, codes that the model gives.
        old: (B, L) int32, codes of the last version in its labels.
        codebooks: (L, K, D) float32, new, relabeled.
        limit: Most squared error that keeping may add to a row, at least 0. So the mean error rises by no more.

    Returns:
        (B, L) int32.
    """
    kept = residual_errors(embeddings, old, codebooks)[:, -1]
    best = residual_errors(embeddings, nearest, codebooks)[:, -1]
    return np.where((kept <= best + limit)[:, None], old, nearest)


def kept_codes(codebooks: np.ndarray, limit: float) -> Column:
    """Returns the column of ``keep_codes`` from ``embedding``, ``rq_codes`` (nearest) and ``old_codes``, null where none;
    an old code that a smaller level has no more is not kept."""
    sizes = level_sizes(codebooks)

    @arrow_udf(ArrayType(IntegerType()))
    def codes(embedding: pa.Array, nearest: pa.Array, old: pa.Array) -> pa.Array:
        given, found = matrix(nearest, np.int32).copy(), np.flatnonzero(old.is_valid())
        if len(found):
            old_codes = matrix(old.drop_null(), np.int32)
            known = (old_codes < sizes).all(axis=1)
            found, old_codes = found[known], old_codes[known]
            given[found] = keep_codes(matrix(embedding)[found], given[found], old_codes, codebooks, limit)
        offsets = np.arange(len(given) + 1, dtype=np.int32) * len(codebooks)
        return pa.ListArray.from_arrays(offsets, given.ravel())

    return codes("embedding", "rq_codes", "old_codes")


def _coded(rows: DataFrame, model: RQModel, limit: float) -> DataFrame:
    return model.transform(rows).withColumn("rq_codes", kept_codes(model.codebooks, limit))


def _relabeled(rows: DataFrame, fitted: RQModel) -> RQModel:
    """Permutes the codes of a model so that most items keep theirs."""
    codes = fitted.transform(rows.where(F.col("old_codes").isNotNull())).select("old_codes", "rq_codes").persist()
    labels = relabeling(codes, level_sizes=fitted.permutable_sizes)
    codes.unpersist()
    return fitted.permuted(labels)
