"""Where a level of residual k-means starts, and how it is repaired.

In: a sample of rows (B, D) with how many rows each stands for. Out: initial centroids (K, D) float32 on the grid.

Source: k-means++, Arthur and Vassilvitskii, SODA 2007; k-means||, Bahmani et al., arXiv 1203.6402.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qarm_features.quantizers.lloyd import cluster_sums, nearest_codes, update_centroids

if TYPE_CHECKING:
    from qarm_features.quantizers.embedding_files import EmbeddingFiles
    from qarm_features.quantizers.fit_levels import LevelSettings

_SAMPLE_BYTES = 64 << 20
_SAMPLE_BLOCK = 4096  # rows
_ROUNDS = 2  # of k-means||
_OVERSAMPLING = 2.0


class Starts:
    """The start of each level: initialCodebooks, or drawn from one sample or, by k-means||, from all rows."""

    def __init__(self, files: EmbeddingFiles, settings: LevelSettings):
        self._files, self._settings = files, settings
        if settings.initial_codebooks is not None:
            return
        largest = max(settings.codebook_sizes)
        affordable = max(largest, _SAMPLE_BYTES // (4 * files.dim))
        sample = files.sample(min(max(20 * largest, 10_000), affordable), settings.seed)
        self._sample, self._weights = sample.rows, sample.weights
        # Levels after the first need not find as many distinct residuals.
        if len(self._sample) < settings.codebook_sizes[0]:
            raise ValueError(
                f"codebookSize is {settings.codebook_sizes[0]}, must be at most the number of distinct rows, "
                f"{len(self._sample)} of {files.facts().rows}. Lower it or fit on more items."
            )

    def centroids(self, level: int, generator: np.random.Generator) -> np.ndarray:
        """Returns initial centroids (K, D) float32 on the grid, fewer if there are fewer distinct residuals."""
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
        """Goes on to the sample's next residuals."""
        if self._settings.initial_codebooks is None:
            self._sample = self._sample - centroids[nearest_codes(self._sample, centroids)]

    def _draw_from_all(self, size: int, generator: np.random.Generator) -> np.ndarray:
        """Draws about 2 K rows per round from all rows, far from those before, then K of them by k-means++."""
        candidates = self._sample[_draw(self._weights, 1, generator)]
        for _ in range(_ROUNDS):
            distances = _squared_distances(self._sample, candidates)
            mean = float((self._weights * distances).cumsum()[-1] / self._weights.sum())  # of the sample, for all rows
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


def split_overfull(
    centroids: np.ndarray, counts: np.ndarray, max_load: float, offset: float, generator: np.random.Generator
) -> np.ndarray:
    """Moves the centroids of the fewest rows next to those of more than max_load times the mean number of rows.

    Args:
        centroids: (K, D) float32.
        counts: (K,) rows of each, at least 0.
        max_load: above 1.
        offset: how far to go in each coordinate, a multiple of the grid's step.
        generator: of the direction.

    Returns:
        (K, D) float32. The error of the next step may be higher: the few rows go to their next nearest centroids.
    """
    mean, freed = counts.sum() / len(counts), counts.astype(np.float64)
    overfull = np.count_nonzero(counts > max_load * mean)
    poorest = np.argsort(counts, kind="stable")[:overfull]
    freed[poorest[counts[poorest] < mean / max_load]] = 0
    return split_largest(centroids, freed, offset, generator)


def split_largest(
    centroids: np.ndarray, counts: np.ndarray, offset: float, generator: np.random.Generator
) -> np.ndarray:
    """Repairs centroids without rows: each takes half of the largest cluster.

    The donor stays where it is, so the error cannot rise; the empty one goes next to it in a random direction.

    Args:
        centroids: (K, D) float32.
        counts: (K,) rows of each, at least 0, one of them above 0.
        offset: how far to go in each coordinate, a multiple of the grid's step.
        generator: of the direction.

    Returns:
        (K, D) float32.
    """
    repaired, shares = centroids.copy(), counts.astype(np.float64)
    for empty in np.flatnonzero(counts == 0):
        donor = int(shares.argmax())
        direction = 2 * generator.integers(0, 2, size=centroids.shape[1]) - 1
        repaired[empty] = repaired[donor] + np.float32(offset) * direction.astype(np.float32)
        shares[donor] /= 2
        shares[empty] = shares[donor]
    return repaired


def draw_centroids(sample: np.ndarray, weights: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draws initial centroids by k-means++, for many centroids ``size // 64`` at a time.

    Args:
        sample: (B, D) float32 on the grid.
        weights: (B,) how many rows each stands for, above 0.
        size: K, at least 1.
        generator: of the draws.

    Returns:
        (K, D) float32, fewer where the sample has fewer distinct rows.
    """
    picked = [sample[_draw(weights, 1, generator)]]
    distances = _squared_distances(sample, picked[0])
    while (missing := size - sum(map(len, picked))) > 0:
        if not distances.any():
            break
        draws = _draw(weights * distances, min(missing, max(1, size // 64)), generator)
        picked.append(np.unique(sample[draws], axis=0))
        distances = np.minimum(distances, _squared_distances(sample, picked[-1]))
    return np.concatenate(picked)


def _draw(odds: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draws indices of odds (B,), each at least 0, in proportion to them; never one of odds 0."""
    cumulated = np.cumsum(odds)  # in order, unlike a sum, so the same on every CPU
    below = np.nextafter(cumulated[-1], 0)
    return np.searchsorted(cumulated, np.minimum(generator.random(size) * cumulated[-1], below), side="right")


def _squared_distances(sample: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Returns the squared distance (B,) of each row (B, D) to the nearest of (K, D), float64, exact on the grid."""
    centroids, distances = picked.astype(np.float64), np.empty(len(sample))
    for start in range(0, len(sample), _SAMPLE_BLOCK):
        rows = sample[start : start + _SAMPLE_BLOCK].astype(np.float64)
        scores = np.einsum("kd,kd->k", centroids, centroids) - 2 * (rows @ centroids.T)
        distances[start : start + _SAMPLE_BLOCK] = np.einsum("ij,ij->i", rows, rows) + scores.min(axis=1)
    return distances
