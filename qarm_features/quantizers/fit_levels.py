"""Residual k-means as the driver runs it: level after level, with one small Spark job per Lloyd step.

In: the rows as ``EmbeddingFiles``. Out: one codebook per level, and a summary of each.

Source: QARM, arXiv 2411.11739, section 3.2; the stopping rule is scikit-learn's, ``cluster/_kmeans.py``.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import numpy as np

from qarm_features.quantizers.arrays.capacity import Prices, split_load
from qarm_features.quantizers.arrays.grid import Grid, ordered_row_sums
from qarm_features.quantizers.arrays.lloyd import update_centroids
from qarm_features.quantizers.arrays.splits import split_largest, without_poorest
from qarm_features.quantizers.level_settings import LevelSettings
from qarm_features.quantizers.passes.embedding_files import EmbeddingFiles, Moments
from qarm_features.quantizers.passes.weights import restore_weight
from qarm_features.quantizers.starts import Starts
from qarm_features.storage.job_descriptions import described

logger = logging.getLogger(__name__)

_SPLIT_SHARE = 2.0**-10  # offset of a split, relative to the standard deviation of the features, as in faiss


def fit_levels(files: EmbeddingFiles, settings: LevelSettings) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """Fit codebooks, level after level.

    Args:
        files: All rows, which must have passed validation.
        settings: Settings of the fit.

    Returns:
        Codebooks (K, D) float32 of each level in the unit of the data, and one dict per level with

        - ``level``, ``iterations``, ``codebook_size``, ``rows`` and ``seconds``;
        - ``weight``: Total weight of all rows, or their number if they have no weights;
        - ``sse``: Sum of squared distances after the level, weighted if rows have weights;
        - ``relative_error``: ``sse`` divided by the sum of squares of the embeddings;
        - ``iteration_errors``: Relative error before each step; with a capacity it counts the priced codes and may rise;
        - ``codes_in_use``: Number of codes with at least one row.

        To spare a pass, ``sse``, ``relative_error`` and ``codes_in_use`` of the last level combine the new centroids with
        the codes of the last step. Hence the error is an upper bound, which is close when the centroids hardly move. With
        a capacity, a further pass makes them exact. All values but ``seconds`` are the same to the last bit for every
        partitioning.

    Raises:
        ValueError: The embeddings have fewer than K distinct rows.
    """
    moments, rows = files.start(), files.facts().rows
    grid, energy, codebooks, summary = files.grid, moments.energy, [], []
    starts = Starts(files, settings)
    for level, size in enumerate(settings.codebook_sizes):
        began, generator = time.perf_counter(), np.random.default_rng([settings.seed, level])
        with described(files.context, f"level {level}, start"):
            first = starts.centroids(level, generator)
        centroids, errors, left, counts = _fit_level(files, level, first, moments, generator, settings)
        if level + 1 < len(settings.codebook_sizes):
            starts.subtract(centroids)
            with described(files.context, f"level {level}, residuals"):
                moments = files.subtract(centroids)
            left, counts = moments.energy, moments.counts
        codebooks.append(grid.restore(centroids))
        facts = {
            "level": level,
            "iterations": len(errors),
            "sse": restore_weight(1, files.weight_bits) * grid.restore_energy(left),
            "relative_error": left / energy if energy else 0.0,
            "iteration_errors": [error / energy if energy else 0.0 for error in errors],
            "codes_in_use": int(np.count_nonzero(counts)),
            "codebook_size": size,
            "rows": rows,
            "weight": restore_weight(moments.weight, files.weight_bits),
            "seconds": round(time.perf_counter() - began, 3),
        }
        summary.append(facts)
        message = "level %(level)d: %(iterations)d iterations, relative error %(relative_error).6f, "
        logger.info(message + "%(codes_in_use)d of %(codebook_size)d codes in use, %(seconds).1f s", facts)
    return codebooks, summary


def _fit_level(
    files: EmbeddingFiles,
    level: int,
    centroids: np.ndarray,
    moments: Moments,
    generator: np.random.Generator,
    settings: LevelSettings,
) -> tuple[np.ndarray, list[float], float, np.ndarray]:
    """Repeat Lloyd steps until the centroids hardly move.

    Args:
        files: All rows.
        level: Index of the level, from 0.
        centroids: Initial centroids, at most (K, D), float32 on the grid.
        moments: Sums over all rows of the level.
        generator: Generator of the directions of splits.
        settings: Settings of the fit.

    Returns:
        Centroids (K, D); the error before each step, in squared grid steps; the error of the centroids with the codes of
        the last step, which is an upper bound of their own; and the number of rows of each code in that step (K,).
    """
    grid, size, errors = files.grid, settings.codebook_sizes[level], []
    spherical = settings.spherical and level == 0
    step_size = math.ldexp(1.0, -grid.bits)
    offset = max(1, round(_SPLIT_SHARE * math.sqrt(moments.variance) / step_size)) * step_size
    # If the residuals have fewer than K distinct values, the other centroids split those that were drawn.
    missing = np.zeros((size - len(centroids), centroids.shape[1]), np.float32)
    known = np.arange(size) < len(centroids)
    centroids = split_largest(np.concatenate([centroids, missing]), known.astype(np.int64), offset, generator)
    prices = Prices(size, settings.capacity, grid)
    load = split_load(settings.max_load, settings.capacity)
    for iteration in range(1, settings.max_iter + 1):
        centroids = to_unit_norm(centroids, grid) if spherical else centroids
        with described(files.context, f"level {level}, iteration {iteration}"):
            sums, counts = files.step(prices.append_to(centroids))
        errors.append(_error(moments.energy, sums, counts, centroids, grid.bits))
        moved = update_centroids(sums, counts, centroids, grid.bits)
        # The later steps split nothing, so that the centroids settle.
        split_above = load if 2 * iteration < settings.max_iter else 0.0
        moved, counts_after_splits = _repair(moved, counts, offset, split_above, settings.capacity > 0, generator)
        moved = to_unit_norm(moved, grid) if spherical else moved
        prices.update(counts, counts_after_splits, errors[-1] / moments.weight)
        shift = _sum_in_order(np.square(moved.astype(np.float64) - centroids))
        centroids, used = moved, np.count_nonzero(counts)
        share = errors[-1] / moments.energy if moments.energy else 0.0
        logger.debug("level %d, iteration %d: %.6f of the error left, %d codes in use", level, iteration, share, used)
        slow = len(errors) > 1 and errors[-2] - errors[-1] < settings.error_tol * errors[-2]
        settled = shift <= settings.tol * moments.variance
        if prices.capacity_holds(counts) and (slow or settled):
            break
    if settings.capacity and level + 1 == len(settings.codebook_sizes):
        sums, counts = files.step(centroids)  # the last step did not choose the nearest centroids
    return centroids, errors, _error(moments.energy, sums, counts, centroids, grid.bits), counts


def _repair(
    centroids: np.ndarray,
    counts: np.ndarray,
    offset: float,
    max_load: float,
    by_pieces: bool,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Move centroids without rows, and split clusters with too many rows unless ``max_load`` is 0.

    Returns:
        Centroids (K, D), and counts (K,) with 0 for the centroids that were moved.
    """
    centroids = split_largest(centroids, counts, offset, generator)
    if not max_load:
        return centroids, counts
    remaining = without_poorest(counts, max_load, by_pieces=by_pieces)
    return split_largest(centroids, remaining, offset, generator), remaining


def to_unit_norm(centroids: np.ndarray, grid: Grid) -> np.ndarray:
    """Scale centroids to norm 1 in the unit of the data; a centroid of norm 0 stays.

    Args:
        centroids: Centroids (K, D) float32 on the grid.
        grid: Grid of the fit.

    Returns:
        Centroids (K, D) float32 on the grid.
    """
    norms = np.sqrt(ordered_row_sums(np.square(centroids.astype(np.float64))))[:, None]
    scaled = centroids / np.where(norms > 0, norms, 1.0)
    return grid.round(scaled.astype(np.float32))


def _error(energy: int, sums: np.ndarray, counts: np.ndarray, centroids: np.ndarray, bits: int) -> float:
    """Return the squared error of centroids, computed from the sums of their rows, in squared grid steps."""
    wide = centroids.astype(np.float64)
    explained = _sum_in_order(wide * (2 * sums - counts[:, None] * wide))
    return max(0.0, energy - math.ldexp(explained, 2 * bits))


def _sum_in_order(values: np.ndarray) -> float:
    """Return the sum of all values, added in one fixed order."""
    return float(ordered_row_sums(values.reshape(1, -1))[0])
