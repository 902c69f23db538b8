"""The driver's side of residual k-means: level after level, one Spark job per Lloyd step.

In: the embeddings as `EmbeddingBlocks` on the grid. Out: codebooks (L, K, D) and a summary per level.

Source: QARM, arXiv 2411.11739, section 3.2; the stopping rule is scikit-learn's, ``cluster/_kmeans.py``.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any, NamedTuple

import numpy as np

from qarm_features.quantizers.embedding_blocks import EmbeddingBlocks, Moments
from qarm_features.quantizers.lloyd import draw_centroids, nearest_codes, split_largest, update_centroids

logger = logging.getLogger(__name__)

_SAMPLE_BYTES = 64 << 20
_SPLIT_SHARE = 2.0**-10  # of the features' standard deviation; faiss uses the same share


class LevelSettings(NamedTuple):
    """Settings of `ResidualKMeans`, checked; seed in [0, 2**64), initial_codebooks (L, K, D) float32 or None."""

    num_levels: int
    codebook_size: int
    max_iter: int
    tol: float
    seed: int
    initial_codebooks: np.ndarray | None


def fit_levels(
    blocks: EmbeddingBlocks, moments: Moments, settings: LevelSettings
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Fits codebooks, level after level, and frees the blocks.

    Args:
        blocks: all embeddings, persisted.
        moments: of them.
        settings: what to fit.

    Returns:
        Codebooks (L, K, D) float32 in the unit of the data, and per level: level, iterations, sse (sum of squared
        distances after it), relative_error (sse by the sum of squares of the embeddings, in [0, 1]), codes_in_use,
        codebook_size, rows, seconds. All but the seconds are the same to the last bit for every partitioning.

    Raises:
        ValueError: The embeddings have fewer than K distinct rows.
    """
    grid, energy, codebooks, summary = blocks.grid, moments.energy, [], []
    try:
        starts = _Starts(blocks, moments.rows, settings)
        for level in range(settings.num_levels):
            began, generator = time.perf_counter(), np.random.default_rng([settings.seed, level])
            centroids = starts.centroids(level, generator)
            centroids, iterations = _fit_level(blocks, level, centroids, moments.variance, generator, settings)
            starts.subtract(centroids)
            last = level + 1 == settings.num_levels
            residuals = blocks.subtract(centroids) if last else blocks.subtract(centroids).persist()
            moments = residuals.describe()
            blocks.unpersist()
            blocks = residuals
            codebooks.append(grid.restore(centroids))
            facts = {
                "level": level,
                "iterations": iterations,
                "sse": grid.restore_energy(moments.energy),
                "relative_error": moments.energy / energy if energy else 0.0,
                "codes_in_use": int(np.count_nonzero(moments.counts)),
                "codebook_size": settings.codebook_size,
                "rows": moments.rows,
                "seconds": round(time.perf_counter() - began, 3),
            }
            summary.append(facts)
            _log_level(facts)
    finally:
        blocks.close()
    return np.stack(codebooks), summary


def _fit_level(
    blocks: EmbeddingBlocks,
    level: int,
    centroids: np.ndarray,
    variance: float,
    generator: np.random.Generator,
    settings: LevelSettings,
) -> tuple[np.ndarray, int]:
    """Repeats Lloyd steps until the centroids rest; returns centroids (K, D) and the number of steps."""
    bits, size = blocks.grid.bits, settings.codebook_size
    step_size = math.ldexp(1.0, -bits)
    offset = max(1, round(_SPLIT_SHARE * math.sqrt(variance) / step_size)) * step_size
    # Fewer than K where the residuals have fewer distinct values; the rest split what is there.
    missing = np.zeros((size - len(centroids), centroids.shape[1]), np.float32)
    known = np.arange(size) < len(centroids)
    centroids = split_largest(np.concatenate([centroids, missing]), known.astype(np.int64), offset, generator)
    for iteration in range(1, settings.max_iter + 1):
        sums, counts, sse = blocks.step(centroids)
        moved = update_centroids(sums, counts, centroids, bits)
        moved = split_largest(moved, counts, offset, generator)
        steps = np.rint(np.ldexp(moved.astype(np.float64) - centroids, bits))
        shift = math.ldexp(math.fsum(np.square(steps).ravel()), -2 * bits)  # fsum: no order of additions
        centroids = moved
        used = np.count_nonzero(counts)
        logger.debug("level %d, iteration %d: sse %.9g of scaled data, %d codes in use", level, iteration, sse, used)
        if shift <= settings.tol * variance:
            break
    return centroids, iteration


class _Starts:
    """Where each level starts: from initialCodebooks, or by k-means++ on the residuals of one sample."""

    def __init__(self, blocks: EmbeddingBlocks, rows: int, settings: LevelSettings):
        self._settings, self._grid = settings, blocks.grid
        if settings.initial_codebooks is not None:
            return
        wanted = max(20 * settings.codebook_size, 10_000)
        affordable = max(settings.codebook_size, _SAMPLE_BYTES // (4 * blocks.dim))
        self._sample, self._weights = blocks.sample(min(wanted, affordable), settings.seed)
        if len(self._sample) < settings.codebook_size:
            raise ValueError(
                f"codebookSize is {settings.codebook_size}, must be at most the number of distinct rows, "
                f"{len(self._sample)} of {rows}. Lower it or fit on more items."
            )

    def centroids(self, level: int, generator: np.random.Generator) -> np.ndarray:
        """Returns initial centroids (K, D) float32 on the grid, fewer if the sample has fewer distinct residuals."""
        if self._settings.initial_codebooks is not None:
            return self._grid.round(self._settings.initial_codebooks[level])
        return draw_centroids(self._sample, self._weights, self._settings.codebook_size, generator)

    def subtract(self, centroids: np.ndarray) -> None:
        """Goes on to the sample's next residuals."""
        if self._settings.initial_codebooks is None:
            self._sample = self._sample - centroids[nearest_codes(self._sample, centroids)]


def _log_level(facts: dict[str, Any]) -> None:
    message = "level %(level)d: %(iterations)d iterations, relative error %(relative_error).6f, "
    logger.info(message + "%(codes_in_use)d of %(codebook_size)d codes in use, %(seconds).1f s", facts)
