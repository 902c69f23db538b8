"""A refit that lowers the error of a changed catalog, while nearly all semantic IDs stay.

In: embeddings as they are now, and codebooks (L, K, D) and semantic IDs as they were. Out: new codebooks with the
labels of the old ones, and the share of items that keep their codes. A refit has four steps:

1. Warm start: A few Lloyd steps start from the last codebooks. An fsq level keeps its axes.
2. Relabel: Centroids are permuted, level by level, so that most items keep their code. A level first counts the items that
   kept all codes before, so that most codes stay under the same prefix. All prefixes share the centroids of a level, hence
   a permutation is the only choice, and it changes no residual.
3. Keep: An item keeps its old semantic ID if that adds little error, see ``keep_codes``.
4. Joint update: With codes held, each centroid becomes the mean of the embeddings of its items less the centroids of all
   *other* levels, earlier and later. The scalars of an fsq level are updated in the same way. Items weigh as in the fit.

Source: Lloyd; additive quantization, Babenko, Lempitsky, CVPR 2014, for the joint update.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, IntegerType

from qarm_features.codebooks.errors import matrix, residual_errors
from qarm_features.codebooks.joint_updates import WHOLE_WEIGHT, JointUpdates, with_whole_weights
from qarm_features.codebooks.level_figures import fitted_levels, measured_levels
from qarm_features.codebooks.relabeling import code_transitions, relabeling
from qarm_features.quantizers.arrays.codebooks import level_sizes
from qarm_features.quantizers.passes.column_functions import column_function
from qarm_features.quantizers.rq_models import RQEstimator, RQModel

logger = logging.getLogger(__name__)
WARM_STEPS = 3  # Lloyd steps of a level; more steps change many codes and lower the error little
_ROUNDS = 2  # rounds of steps 3 and 4; more lower the error, but move the first levels away from the old ones


class Refit(NamedTuple):
    """The result of a refit.

    Attributes:
        model: Refitted model.
        keep_limit: Extra squared error up to which an item keeps its old semantic ID, at least 0.
        new_code: Code (L, K) int32 that most items of an old code have now, -1 for an old code without items.
        levels: Figures per level, see ``level_figures.measured_levels``.
        kept: ``items`` (number of items of both versions), ``levels`` (L shares of them with an unchanged code) and
            ``semantic_ids`` (share of them with an unchanged ID).
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
    """Refit codebooks so that most items keep their semantic ID.

    Args:
        embeddings: Rows of ``item_id``, ``embedding`` (D) of about unit norm, and the column of weights of the estimator,
            for all items.
        old_ids: Rows of ``item_id`` and ``rq_codes`` under the last codebook version.
        estimator: Estimator of the same kind, L and K. Its ``maxIter`` is used if there is no warm start.
        old: Model of the last codebook version, to start from. None, for another encoder version, fits without a start and
            relabels all levels but an fsq one.
        old_sizes: Number of codes K of each level of the last codebook version.
        keep_within: Limit of ``keep_codes``, relative to the mean squared error of the fit, at least 0.
    """
    weight = estimator.weight_name()
    rows = embeddings.select("item_id", "embedding")
    if weight is not None:
        rows = with_whole_weights(embeddings, weight).select("item_id", "embedding", WHOLE_WEIGHT)
    old_codes = old_ids.select("item_id", F.col("rq_codes").alias("old_codes"))
    rows = rows.join(old_codes, on="item_id", how="left").drop("item_id")
    with _unlogged_fit():
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
    for figures in levels:
        message = "level %(level)d after the refit: relative error %(relative_error).6f, "
        logger.info(message + "%(codes_in_use)d of %(codebook_size)d codes in use", figures)
    common = coded.where(F.col("old_codes").isNotNull())
    new_code, kept = code_transitions(common, num_levels=len(levels), codebook_size=max(old_sizes))
    coded.unpersist()
    return Refit(model, limit, new_code, levels, kept)


def keep_codes(
    embeddings: np.ndarray, nearest: np.ndarray, old: np.ndarray, codebooks: np.ndarray, limit: float
) -> np.ndarray:
    """Return the old codes of rows that they decode nearly as well as the nearest codes, and else the nearest codes.

    Args:
        embeddings: Embeddings (B, D) float32.
        nearest: Codes (B, L) int32 that the new model gives.
        old: Codes (B, L) int32 under the last codebook version.
        codebooks: New codebooks (L, K, D) float32 with the labels of the old ones.
        limit: Squared error that an old code may add to a row, at least 0. Hence the mean error rises by at most this.

    Returns:
        Codes (B, L) int32.

    Example:
        >>> codebooks, rows = np.array([[[0.0], [1.0]]], np.float32), np.array([[0.55], [0.9]], np.float32)
        >>> keep_codes(rows, np.array([[1], [1]]), np.array([[0], [0]]), codebooks, limit=0.2).tolist()
        [[0], [1]]
    """
    old_errors = residual_errors(embeddings, old, codebooks)[:, -1]
    least_errors = residual_errors(embeddings, nearest, codebooks)[:, -1]
    return np.where((old_errors <= least_errors + limit)[:, None], old, nearest)


def kept_codes(codebooks: np.ndarray, limit: float) -> Column:
    """Return the column of the codes that ``keep_codes`` gives.

    It reads ``embedding``, ``rq_codes`` (the nearest codes) and ``old_codes`` (null for new items). If a level has become
    smaller, old codes beyond its size are not kept.

    Args:
        codebooks: New codebooks (L, K, D) float32 with the labels of the old ones.
        limit: Squared error that an old code may add to a row, at least 0.
    """
    sizes = level_sizes(codebooks)

    def codes(embedding: pa.Array, nearest: pa.Array, old: pa.Array) -> pa.Array:
        given, found = matrix(nearest, np.int32).copy(), np.flatnonzero(old.is_valid())
        if len(found):
            old_codes = matrix(old.drop_null(), np.int32)
            known = (old_codes < sizes).all(axis=1)
            found, old_codes = found[known], old_codes[known]
            given[found] = keep_codes(matrix(embedding)[found], given[found], old_codes, codebooks, limit)
        offsets = np.arange(len(given) + 1, dtype=np.int32) * len(codebooks)
        return pa.ListArray.from_arrays(offsets, given.ravel())

    return column_function(codes, ArrayType(IntegerType()))("embedding", "rq_codes", "old_codes")


@contextmanager
def _unlogged_fit() -> Iterator[None]:
    """Keep the figures of the warm start out of the log: steps 3 and 4 change the codes and centroids that they describe."""
    of_fits = logging.getLogger("qarm_features.quantizers.fit_levels")
    level = of_fits.level
    of_fits.setLevel(logging.WARNING)
    try:
        yield
    finally:
        of_fits.setLevel(level)


def _coded(rows: DataFrame, model: RQModel, limit: float) -> DataFrame:
    """Add ``rq_codes``, the old codes where they add little error, else the nearest."""
    return model.transform(rows).withColumn("rq_codes", kept_codes(model.codebooks, limit))


def _relabeled(rows: DataFrame, fitted: RQModel) -> RQModel:
    """Permute the codes of a model so that most items keep theirs."""
    codes = fitted.transform(rows.where(F.col("old_codes").isNotNull())).select("old_codes", "rq_codes").persist()
    labels = relabeling(codes, level_sizes=fitted.permutable_sizes)
    codes.unpersist()
    return fitted.permuted(labels)
