"""The driver's side of residual k-means: level after level, one small Spark job per Lloyd step.

In: the rows as `EmbeddingFiles`. Out: codebooks, one per level, and a summary of each.

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

logger = logging.getLogger(__name__)

_SPLIT_SHARE = 2.0**-10  # of the features' standard deviation; faiss uses the same share


def fit_levels(files: EmbeddingFiles, settings: LevelSettings) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """Fits codebooks, level after level.

    Args:
        files: all rows, valid.
        settings: what to fit.

    Returns:
        Codebooks, (K, D) float32 of each level in the unit of the data, and per level: level, iterations, sse (sum of
        squared distances after it, weighted where rows have weights), relative_error (sse by the sum of squares of the
        embeddings), iteration_errors (the same before each step), codes_in_use, codebook_size, rows, weight (of all rows,
        their number where they have none), seconds. Of the last level sse is that of the new centroids with the codes of
        the last step: an upper bound, to which it comes near as the centroids come to rest, and a pass less; so are
        relative_error and codes_in_use; with a capacity a pass more makes them exact, and iteration_errors, those of the
        priced codes, may rise. All but the seconds are the same to the last bit for every partitioning.

    Raises:
        ValueError: The embeddings have fewer than K distinct rows.
    """
    moments, rows = files.start(), files.facts().rows
    grid, energy, codebooks, summary = files.grid, moments.energy, [], []
    starts = Starts(files, settings)
    for level, size in enumerate(settings.codebook_sizes):
        began, generator = time.perf_counter(), np.random.default_rng([settings.seed, level])
        first = starts.centroids(level, generator)
        centroids, errors, left, counts = _fit_level(files, level, first, moments, generator, settings)
        if level + 1 < len(settings.codebook_sizes):
            starts.subtract(centroids)
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
    """Repeats Lloyd steps until the centroids rest.

    Returns:
        Centroids (K, D); the error before each step, in squared grid steps; the error of the centroids with the codes of the
        last step, at least their own; and the rows of each code in that step (K,).
    """
    grid, size, errors = files.grid, settings.codebook_sizes[level], []
    spherical = settings.spherical and level == 0
    step_size = math.ldexp(1.0, -grid.bits)
    offset = max(1, round(_SPLIT_SHARE * math.sqrt(moments.variance) / step_size)) * step_size
    # Fewer than K where the residuals have fewer distinct values; the rest split what is there.
    missing = np.zeros((size - len(centroids), centroids.shape[1]), np.float32)
    known = np.arange(size) < len(centroids)
    centroids = split_largest(np.concatenate([centroids, missing]), known.astype(np.int64), offset, generator)
    prices = Prices(size, settings.capacity, grid)
    load = split_load(settings.max_load, settings.capacity)
    for iteration in range(1, settings.max_iter + 1):
        centroids = to_unit_norm(centroids, grid) if spherical else centroids
        sums, counts = files.step(prices.beside(centroids))
        errors.append(_error(moments.energy, sums, counts, centroids, grid.bits))
        moved = update_centroids(sums, counts, centroids, grid.bits)
        split_above = load if 2 * iteration < settings.max_iter else 0.0  # later steps settle
        moved, kept = _repair(moved, counts, offset, split_above, settings.capacity > 0, generator)
        moved = to_unit_norm(moved, grid) if spherical else moved
        prices.follow(counts, kept, errors[-1] / moments.weight)
        shift = _sum_in_order(np.square(moved.astype(np.float64) - centroids))
        centroids, used = moved, np.count_nonzero(counts)
        share = errors[-1] / moments.energy if moments.energy else 0.0
        logger.debug("level %d, iteration %d: %.6f of the error left, %d codes in use", level, iteration, share, used)
        slow = len(errors) > 1 and errors[-2] - errors[-1] < settings.error_tol * errors[-2]
        at_rest = shift <= settings.tol * moments.variance
        if prices.capacity_holds(counts) and (slow or at_rest):
            break
    if settings.capacity and level + 1 == len(settings.codebook_sizes):
        sums, counts = files.step(centroids)  # the codes of the last step were not those of the nearest centroids
    return centroids, errors, _error(moments.energy, sums, counts, centroids, grid.bits), counts


def _repair(
    centroids: np.ndarray,
    counts: np.ndarray,
    offset: float,
    max_load: float,
    by_pieces: bool,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Splits what has no rows and, but with max_load 0, what has too many; returns centroids and counts, 0 of those moved."""
    centroids = split_largest(centroids, counts, offset, generator)
    if not max_load:
        return centroids, counts
    kept = without_poorest(counts, max_load, by_pieces=by_pieces)
    return split_largest(centroids, kept, offset, generator), kept


def to_unit_norm(centroids: np.ndarray, grid: Grid) -> np.ndarray:
    """Scales centroids (K, D) float32 on the grid to norm 1 in the unit of the data; one without direction stays."""
    norms = np.sqrt(ordered_row_sums(np.square(centroids.astype(np.float64))))[:, None]
    scaled = centroids / np.where(norms > 0, norms, 1.0)
    return grid.round(scaled.astype(np.float32))


def _error(energy: int, sums: np.ndarray, counts: np.ndarray, centroids: np.ndarray, bits: int) -> float:
    """Returns the error of centroids by the sums of their rows, in squared grid steps."""
    wide = centroids.astype(np.float64)
    explained = _sum_in_order(wide * (2 * sums - counts[:, None] * wide))
    return max(0.0, energy - math.ldexp(explained, 2 * bits))


def _sum_in_order(values: np.ndarray) -> float:
    return float(ordered_row_sums(values.reshape(1, -1))[0])
