"""How a step of residual k-means repairs its centroids: those without rows, or with too few, take half of a large cluster.

In: centroids (K, D) and the rows of each (K,). Out: centroids (K, D), as many.
"""

from __future__ import annotations

import numpy as np


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
    repaired = centroids.copy()
    for empty, donor in halves(counts):
        direction = 2 * generator.integers(0, 2, size=centroids.shape[1]) - 1
        repaired[empty] = repaired[donor] + np.float32(offset) * direction.astype(np.float32)
    return repaired


def without_poorest(counts: np.ndarray, max_load: float, *, by_pieces: bool = False) -> np.ndarray:
    """Frees centroids of few rows, to split those of more than max_load times the mean number of rows.

    Args:
        counts: (K,) rows of each, at least 0.
        max_load: above 1.
        by_pieces: free as many as it takes to cut what is above into pieces that are not, in place of one for each.

    Returns:
        Counts (K,) float64 with 0 for those freed: of the fewest rows, and below the mean by max_load.
    """
    mean, freed = counts.sum() / len(counts), counts.astype(np.float64)
    pieces = np.maximum(np.ceil(counts / (max_load * mean)) - 1, 0) if by_pieces else counts > max_load * mean
    poorest = np.argsort(counts, kind="stable")[: int(pieces.sum())]
    freed[poorest[counts[poorest] < mean / max_load]] = 0
    return freed


def halves(counts: np.ndarray) -> list[tuple[int, int]]:
    """Returns which centroid each one without rows splits, in order: the one of the largest share (K,) by then."""
    shares, pairs = counts.astype(np.float64), []
    for empty in np.flatnonzero(counts == 0):
        donor = int(shares.argmax())
        shares[donor] /= 2
        shares[empty] = shares[donor]
        pairs.append((int(empty), donor))
    return pairs
