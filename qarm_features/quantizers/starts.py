"""Initial centroids of the levels of residual k-means.

In: a sample of rows (B, D), and the number of rows that each stands for. Out: initial centroids (K, D) float32 on the grid.

Source: k-means++, Arthur and Vassilvitskii, SODA 2007; k-means||, Bahmani et al., arXiv 1203.6402.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from qarm_features.quantizers.arrays.lloyd import cluster_sums, nearest_codes, update_centroids
from qarm_features.quantizers.level_settings import LevelSettings
from qarm_features.quantizers.passes.embedding_files import EmbeddingFiles

_SAMPLE_BYTES = 64 << 20
_SAMPLE_BLOCK = 4096  # number of rows whose distances are computed at a time
_COARSE_BITS = 11  # squared distances stay below (2 * 2**11)**2 = 2**24, where float32 is exact
_MOST_DRAWS = 32_768  # maximal number of draws for all centroids; with more than 4,096 of them each has fewer
_SCORES = 1 << 19  # number of distances at a time, so that they stay in the CPU's cache
_ROUNDS = 2  # number of rounds of k-means||
_OVERSAMPLING = 2.0


class Starts:
    """Gives each level its initial centroids.

    They are those of ``initial_codebooks``, or are drawn from one sample or, by k-means||, from all rows.
    """

    def __init__(self, files: EmbeddingFiles, settings: LevelSettings) -> None:
        """Take the sample, unless the settings have initial codebooks.

        Args:
            files: All rows of the fit, on the grid.
            settings: Settings of the fit.

        Raises:
            ValueError: The rows have fewer distinct values than level 0 has centroids.
        """
        self._files, self._settings = files, settings
        if settings.initial_codebooks is not None:
            return
        largest = max(settings.codebook_sizes)
        affordable = max(largest, _SAMPLE_BYTES // (4 * files.dim))
        sample = files.sample(min(max(20 * largest, 10_000), affordable), settings.seed)
        self._sample, self._weights = sample.rows, sample.weights
        # Later levels may have fewer distinct residuals than centroids.
        if len(self._sample) < settings.codebook_sizes[0]:
            raise ValueError(
                f"codebookSize is {settings.codebook_sizes[0]}, must be at most the number of distinct rows, "
                f"{len(self._sample)} of {files.facts().rows}. Lower it or fit on more items."
            )

    def centroids(self, level: int, generator: np.random.Generator) -> np.ndarray:
        """Return the initial centroids of a level.

        Args:
            level: Index of the level, from 0.
            generator: Generator of the draws.

        Returns:
            Centroids (K, D) float32 on the grid, fewer if there are fewer distinct residuals.
        """
        settings, size = self._settings, self._settings.codebook_sizes[level]
        if settings.initial_codebooks is not None:
            return self._files.grid.round(settings.initial_codebooks[level])
        if settings.init_mode == "random":
            first = np.unique(self._sample, axis=0)
            first = first[generator.permutation(len(first))[:size]]
        elif settings.init_mode == "k-means||":
            first = self._draw_from_all(size, generator)
        else:
            first = draw_centroids(self._sample, self._weights, size, generator)
        for _ in range(settings.warmup_iter):
            codes = nearest_codes(self._sample, first)
            sums, counts = cluster_sums(self._sample, codes, len(first), self._weights, self._files.grid.bits)
            sums = np.ldexp(sums.astype(np.float64), -self._files.grid.bits)
            first = update_centroids(sums, counts, first, self._files.grid.bits)
        return first

    def subtract(self, centroids: np.ndarray) -> None:
        """Go on to the next level, by subtracting from each row of the sample its nearest centroid (K, D)."""
        if self._settings.initial_codebooks is None:
            self._sample = self._sample - centroids[nearest_codes(self._sample, centroids)]

    def _draw_from_all(self, size: int, generator: np.random.Generator) -> np.ndarray:
        """Draw about 2 K rows per round from all rows, far from those of earlier rounds, then K of them by k-means++."""
        candidates = self._sample[_draw(self._weights, 1, generator)]
        for _ in range(_ROUNDS):
            distances = _squared_distances(self._sample, candidates)
            mean = float(
                (self._weights * distances).cumsum()[-1] / self._weights.sum()
            )  # mean of the sample, as an estimate for all rows
            if mean <= 0:
                break
            odds = _OVERSAMPLING * size / (self._files.facts().rows * mean)
            drawn = self._files.draw(candidates, int(generator.integers(0, 2**63)), odds)
            candidates = np.concatenate([candidates, drawn.rows])
        candidates = np.unique(candidates, axis=0)
        _, counts = self._files.step(candidates)
        if np.count_nonzero(counts) < size:
            return draw_centroids(self._sample, self._weights, size, generator)
        return draw_centroids(candidates[counts > 0], counts[counts > 0], size, generator)


def draw_centroids(sample: np.ndarray, weights: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draw initial centroids by greedy k-means++, ``size // 64`` at a time if there are many.

    Each centroid is the best of 2 + log K draws, the one that lowers the error of the sample most. Distances are computed on
    a coarse grid, where float32 products are exact. Rows that are equal on this grid are drawn only after all others.

    Args:
        sample: Rows (B, D) float32 on the grid.
        weights: Number of rows (B,) that each stands for, integers above 0.
        size: Number of centroids K, at least 1.
        generator: Generator of the draws.

    Returns:
        Centroids (K, D) float32, fewer if the sample has fewer distinct rows.

    Example:
        >>> sample = np.array([[0.0], [1.0], [4.0]], np.float32)
        >>> draw_centroids(sample, np.ones(3, np.int64), 3, np.random.default_rng(0)).tolist()
        [[0.0], [1.0], [4.0]]

    Source: greedy k-means++, section 5 of Arthur and Vassilvitskii, SODA 2007; the number of draws is scikit-learn's.
    """
    coarse, shares = _on_coarse_grid(sample), _scaled_weights(weights)
    picked = _draw(weights, 1, generator)
    distances = _coarse_distances(coarse, picked)[:, 0]
    draws = max(2, min(2 + int(math.log(size)), _MOST_DRAWS // size))
    while len(picked) < size and distances.any():
        count = min(size - len(picked), max(1, size // 64))
        candidates = _draw(shares * distances, draws * count, generator)
        best = _lowest_errors(coarse, shares, distances, candidates).reshape(count, draws).argmin(axis=1)
        chosen = np.unique(candidates.reshape(count, draws)[np.arange(count), best])
        picked = np.concatenate([picked, chosen])
        for low, high in _blocks(len(sample), len(chosen)):
            near = _coarse_distances(coarse[low:high], chosen, coarse).min(axis=1)
            np.minimum(distances[low:high], near, out=distances[low:high])
    return _draw_apart(sample, weights, size, [np.unique(sample[picked], axis=0)], generator)


def _draw_apart(
    sample: np.ndarray, weights: np.ndarray, size: int, picked: list[np.ndarray], generator: np.random.Generator
) -> np.ndarray:
    """Add centroids to those that were picked, until there are K, drawn by exact distances."""
    if size <= sum(map(len, picked)):
        return np.concatenate(picked)
    distances = _squared_distances(sample, picked[0])
    while (missing := size - sum(map(len, picked))) > 0 and distances.any():
        draws = _draw(weights * distances, min(missing, max(1, size // 64)), generator)
        picked.append(np.unique(sample[draws], axis=0))
        distances = np.minimum(distances, _squared_distances(sample, picked[-1]))
    return np.concatenate(picked)


def _lowest_errors(coarse: np.ndarray, shares: np.ndarray, distances: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the exact error (C,) float64 of the sample with each candidate as a further centroid."""
    errors = np.zeros(len(candidates))
    for low, high in _blocks(len(coarse), len(candidates)):
        near = _coarse_distances(coarse[low:high], candidates, coarse)
        errors += shares[low:high] @ np.minimum(near, distances[low:high, None], out=near).astype(np.float64)
    return errors


def _coarse_distances(rows: np.ndarray, picked: np.ndarray, coarse: np.ndarray | None = None) -> np.ndarray:
    """Return the exact squared distances (B, C) float32 of rows on the coarse grid to picked ones."""
    centroids = (rows if coarse is None else coarse)[picked]
    squares = [np.einsum("ij,ij->i", values, values)[:, None] for values in (rows, centroids)]
    distances = rows @ (-2 * centroids).T
    distances += squares[0]
    distances += squares[1].T
    return distances


def _on_coarse_grid(sample: np.ndarray) -> np.ndarray:
    """Return a sample (B, D) as whole steps of a coarse grid, on which squared distances stay below 2**24."""
    largest = float(np.sqrt(np.square(sample, dtype=np.float64).cumsum(axis=1)[:, -1].max()))
    exponent = math.frexp(largest)[1] if largest > 0 else 0  # largest < 2**exponent
    return np.trunc(np.ldexp(sample, _COARSE_BITS - exponent)) + np.float32(0)


def _scaled_weights(weights: np.ndarray) -> np.ndarray:
    """Return weights (B,) as whole numbers in float64 with a sum of about 2**28 at most, for exact sums of distances."""
    excess = max(0, int(weights.sum()).bit_length() - 28)
    return np.ceil(np.ldexp(weights.astype(np.float64), -excess))


def _blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the end row of each block of about ``_SCORES`` distances."""
    size = max(256, _SCORES // columns)
    return ((low, min(rows, low + size)) for low in range(0, rows, size))


def _draw(odds: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draw ``size`` indices in proportion to odds (B,) of at least 0; an index with odds 0 is never drawn."""
    cumulated = np.cumsum(odds)  # the order is fixed, unlike that of a sum, so the result is the same on every CPU
    below = np.nextafter(cumulated[-1], 0)
    return np.searchsorted(cumulated, np.minimum(generator.random(size) * cumulated[-1], below), side="right")


def _squared_distances(sample: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Return the squared distance (B,) float64 of each row (B, D) to the nearest of (K, D), exact on the grid."""
    centroids, distances = picked.astype(np.float64), np.empty(len(sample))
    for start in range(0, len(sample), _SAMPLE_BLOCK):
        rows = sample[start : start + _SAMPLE_BLOCK].astype(np.float64)
        scores = np.einsum("kd,kd->k", centroids, centroids) - 2 * (rows @ centroids.T)
        distances[start : start + _SAMPLE_BLOCK] = np.einsum("ij,ij->i", rows, rows) + scores.min(axis=1)
    return distances
