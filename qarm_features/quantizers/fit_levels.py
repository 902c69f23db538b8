"""The driver's side of residual k-means: level after level, one small Spark job per Lloyd step.

In: the rows as `EmbeddingFiles`. Out: codebooks, one per level, and a summary of each.

Source: QARM, arXiv 2411.11739, section 3.2; the stopping rule is scikit-learn's, ``cluster/_kmeans.py``.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any, NamedTuple

import numpy as np

from qarm_features.quantizers.embedding_files import EmbeddingFiles, Moments
from qarm_features.quantizers.grid import Grid, ordered_row_sums
from qarm_features.quantizers.lloyd import update_centroids
from qarm_features.quantizers.starts import Starts, split_largest, split_overfull
from qarm_features.quantizers.weights import restore_weight

logger = logging.getLogger(__name__)

_SPLIT_SHARE = 2.0**-10  # of the features' standard deviation; faiss uses the same share


class LevelSettings(NamedTuple):
    """Settings of `ResidualKMeans`, checked; the names are those of its params."""

    codebook_sizes: list[int]  # K of each level
    max_iter: int
    tol: float
    error_tol: float
    seed: int  # in [0, 2**64)
    initial_codebooks: list[np.ndarray] | None  # (K, D) float32 of each level
    init_mode: str
    warmup_iter: int
    spherical: bool
    max_load: float


def fit_levels(files: EmbeddingFiles, settings: LevelSettings) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """Fits codebooks, level after level.

    Args:
        files: all rows, valid.
        settings: what to fit.

    Returns:
        Codebooks, (K, D) float32 of each level in the unit of the data, and per level: level, iterations, sse (sum of
        squared distances after it, weighted where rows have weights), relative_error (sse by the sum of squares of the
        embeddings), iteration_errors (the same before each step), codes_in_use, codebook_size, rows, seconds. All but
        the seconds are the same to the last bit for every partitioning.

    Raises:
        ValueError: The embeddings have fewer than K distinct rows.
    """
    moments, rows = files.start(), files.facts().rows
    grid, energy, codebooks, summary = files.grid, moments.energy, [], []
    starts = Starts(files, settings)
    for level, size in enumerate(settings.codebook_sizes):
        began, generator = time.perf_counter(), np.random.default_rng([settings.seed, level])
        first = starts.centroids(level, generator)
        centroids, errors = _fit_level(files, level, first, moments, generator, settings, energy)
        starts.subtract(centroids)
        moments = files.subtract(centroids, last=level + 1 == len(settings.codebook_sizes))
        codebooks.append(grid.restore(centroids))
        facts = {
            "level": level,
            "iterations": len(errors),
            "sse": restore_weight(1, files.weight_bits) * grid.restore_energy(moments.energy),
            "relative_error": moments.energy / energy if energy else 0.0,
            "iteration_errors": errors,
            "codes_in_use": int(np.count_nonzero(moments.counts)),
            "codebook_size": size,
            "rows": rows,
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
    energy: int,
) -> tuple[np.ndarray, list[float]]:
    """Repeats Lloyd steps until the centroids rest; returns centroids (K, D) and the relative error before each step."""
    grid, size, errors = files.grid, settings.codebook_sizes[level], []
    spherical = settings.spherical and level == 0
    step_size = math.ldexp(1.0, -grid.bits)
    offset = max(1, round(_SPLIT_SHARE * math.sqrt(moments.variance) / step_size)) * step_size
    # Fewer than K where the residuals have fewer distinct values; the rest split what is there.
    missing = np.zeros((size - len(centroids), centroids.shape[1]), np.float32)
    known = np.arange(size) < len(centroids)
    centroids = split_largest(np.concatenate([centroids, missing]), known.astype(np.int64), offset, generator)
    for iteration in range(1, settings.max_iter + 1):
        centroids = to_unit_norm(centroids, grid) if spherical else centroids
        sums, counts = files.step(centroids)
        errors.append(_relative_error(moments.energy, sums, counts, centroids, grid.bits, energy))
        moved = update_centroids(sums, counts, centroids, grid.bits)
        moved = split_largest(moved, counts, offset, generator)
        if settings.max_load and 2 * iteration < settings.max_iter:  # later steps settle
            moved = split_overfull(moved, counts, settings.max_load, offset, generator)
        moved = to_unit_norm(moved, grid) if spherical else moved
        shift = _sum_in_order(np.square(moved.astype(np.float64) - centroids))
        centroids, used = moved, np.count_nonzero(counts)
        logger.debug("level %d, iteration %d: relative error %.6f, %d codes in use", level, iteration, errors[-1], used)
        if shift <= settings.tol * moments.variance:
            break
        if len(errors) > 1 and errors[-2] - errors[-1] < settings.error_tol * errors[-2]:
            break
    return centroids, errors


def to_unit_norm(centroids: np.ndarray, grid: Grid) -> np.ndarray:
    """Scales centroids (K, D) float32 on the grid to norm 1 in the unit of the data; one without direction stays."""
    norms = np.sqrt(ordered_row_sums(np.square(centroids.astype(np.float64))))[:, None]
    scaled = centroids / np.where(norms > 0, norms, 1.0)
    return grid.round(scaled.astype(np.float32))


def _relative_error(
    energy: int, sums: np.ndarray, counts: np.ndarray, centroids: np.ndarray, bits: int, total: int
) -> float:
    """Returns the error of centroids by the sums of their rows, as a share of the total energy."""
    wide = centroids.astype(np.float64)
    explained = _sum_in_order(wide * (2 * sums - counts[:, None] * wide))
    return max(0.0, energy - math.ldexp(explained, 2 * bits)) / total if total else 0.0


def _sum_in_order(values: np.ndarray) -> float:
    return float(ordered_row_sums(values.reshape(1, -1))[0])
