"""Draw initial centroids of k-means from rows in memory.

In: a sample of rows (B, D), and the number of rows that each stands for. Out: initial centroids (K, D) float32 on the grid.
Nothing here needs Spark, so that a training process can draw them too.

Source: k-means++, Arthur and Vassilvitskii, SODA 2007.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_SAMPLE_BLOCK = 4096  # number of rows whose distances are computed at a time
_COARSE_BITS = 11  # squared distances stay below (2 * 2**11)**2 = 2**24, where float32 is exact
_MOST_DRAWS = 32_768  # maximal number of draws for all centroids; with more than 4,096 of them each has fewer
_SCORES = 1 << 19  # number of distances at a time, so that they stay in the CPU's cache


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
    picked = draw(weights, 1, generator)
    distances = _coarse_distances(coarse, picked)[:, 0]
    draws = max(2, min(2 + int(math.log(size)), _MOST_DRAWS // size))
    while len(picked) < size and distances.any():
        count = min(size - len(picked), max(1, size // 64))
        candidates = draw(shares * distances, draws * count, generator)
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
    distances = squared_distances(sample, picked[0])
    while (missing := size - sum(map(len, picked))) > 0 and distances.any():
        draws = draw(weights * distances, min(missing, max(1, size // 64)), generator)
        picked.append(np.unique(sample[draws], axis=0))
        distances = np.minimum(distances, squared_distances(sample, picked[-1]))
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


def draw(odds: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draw ``size`` indices in proportion to odds (B,) of at least 0; an index with odds 0 is never drawn."""
    cumulated = np.cumsum(odds)  # the order is fixed, unlike that of a sum, so the result is the same on every CPU
    below = np.nextafter(cumulated[-1], 0)
    return np.searchsorted(cumulated, np.minimum(generator.random(size) * cumulated[-1], below), side="right")


def squared_distances(sample: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Return the squared distance (B,) float64 of each row (B, D) to the nearest of (K, D), exact on the grid."""
    centroids, distances = picked.astype(np.float64), np.empty(len(sample))
    for start in range(0, len(sample), _SAMPLE_BLOCK):
        rows = sample[start : start + _SAMPLE_BLOCK].astype(np.float64)
        scores = np.einsum("kd,kd->k", centroids, centroids) - 2 * (rows @ centroids.T)
        distances[start : start + _SAMPLE_BLOCK] = np.einsum("ij,ij->i", rows, rows) + scores.min(axis=1)
    return distances
