"""Repairs of centroids after a step of residual k-means.

In: centroids (K, D) and the number of rows of each (K,). Out: centroids (K, D), in which those without rows, or with too few,
have moved to split a large cluster.
"""

from __future__ import annotations

import numpy as np


def split_largest(
    centroids: np.ndarray, counts: np.ndarray, offset: float, generator: np.random.Generator
) -> np.ndarray:
    """Move each centroid without rows next to the centroid of the largest cluster.

    The other centroid keeps its place, so the error cannot rise. The direction from it is random.

    Args:
        centroids: Centroids (K, D) float32.
        counts: Number of rows (K,) of each centroid, at least 0, one of them above 0.
        offset: Distance to move in each coordinate, a multiple of the step of the grid.
        generator: Generator of the directions.

    Returns:
        Centroids (K, D) float32.
    """
    repaired = centroids.copy()
    for empty, donor in halves(counts):
        direction = 2 * generator.integers(0, 2, size=centroids.shape[1]) - 1
        repaired[empty] = repaired[donor] + np.float32(offset) * direction.astype(np.float32)
    return repaired


def without_poorest(counts: np.ndarray, max_load: float, *, by_pieces: bool = False) -> np.ndarray:
    """Choose centroids with few rows that shall move, to split those with more than ``max_load`` times the mean.

    Args:
        counts: Number of rows (K,) of each centroid, at least 0.
        max_load: Number of rows, relative to the mean, above which a cluster is split; above 1.
        by_pieces: True if a cluster shall be split into as many pieces as its size needs, False if into two.

    Returns:
        Counts (K,) float64 with 0 for the centroids that shall move. These have the fewest rows, and less than the mean
        divided by ``max_load``.

    Example:
        >>> without_poorest(np.array([1, 20, 6, 5]), max_load=2.0).tolist()
        [0.0, 20.0, 6.0, 5.0]
    """
    mean, remaining = counts.sum() / len(counts), counts.astype(np.float64)
    pieces = np.maximum(np.ceil(counts / (max_load * mean)) - 1, 0) if by_pieces else counts > max_load * mean
    poorest = np.argsort(counts, kind="stable")[: int(pieces.sum())]
    remaining[poorest[counts[poorest] < mean / max_load]] = 0
    return remaining


def halves(counts: np.ndarray) -> list[tuple[int, int]]:
    """Pair each centroid without rows with the one that it splits, which has the largest share of rows at that time.

    Args:
        counts: Number of rows (K,) of each centroid, one of them above 0.

    Returns:
        Pairs of an empty centroid and the one to split, in the order of the empty ones.

    Example:
        >>> halves(np.array([0, 10, 6, 0]))
        [(0, 1), (3, 2)]
    """
    shares, pairs = counts.astype(np.float64), []
    for empty in np.flatnonzero(counts == 0):
        donor = int(shares.argmax())
        shares[donor] /= 2
        shares[empty] = shares[donor]
        pairs.append((int(empty), donor))
    return pairs
