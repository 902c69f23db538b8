"""k-means on a sample in memory, to try numbers of centroids before a fit over all rows.

In: rows (B, D) float32 of a bounded sample. Out: centroids (K, D) and their error on other rows.
"""

from __future__ import annotations

import numpy as np

from qarm_features.quantizers.arrays.centroid_draws import draw_centroids
from qarm_features.quantizers.arrays.grid import choose_grid
from qarm_features.quantizers.arrays.lloyd import lloyd_step, nearest_centroids, update_centroids

_STEPS = 10
_RESTARTS, _RESTARTS_UP_TO = 4, 64  # few centroids can settle badly, and cost little to fit again


def fit_sample(rows: np.ndarray, size: int, *, seed: int) -> np.ndarray:
    """Fit centroids to a sample by k-means++ and ten Lloyd steps, the best of four fits for at most 64 centroids.

    Args:
        rows: Rows (B, D) float32, finite, at least one.
        size: Number of centroids K, at least 1.
        seed: Seed of the draws, at least 0.

    Returns:
        Centroids (K, D) float32, fewer if the rows have fewer distinct values. The same rows and seed give the same ones.
    """
    grid = choose_grid(float(np.linalg.norm(rows, axis=1).max()), len(rows))
    on_grid = grid.round(rows)
    restarts = _RESTARTS if size <= _RESTARTS_UP_TO else 1
    fits = [_fit(on_grid, size, grid.bits, np.random.default_rng([seed, size, one])) for one in range(restarts)]
    best = fits[0] if restarts == 1 else min(fits, key=lambda centroids: mean_error(on_grid, centroids))
    return grid.restore(best)


def _fit(rows: np.ndarray, size: int, bits: int, generator: np.random.Generator) -> np.ndarray:
    """Return centroids (K, D) of rows (B, D) on a grid."""
    centroids = draw_centroids(rows, np.ones(len(rows), np.int64), size, generator)
    for _ in range(_STEPS):
        sums, counts, _ = lloyd_step(rows, centroids)
        moved = update_centroids(sums, counts, centroids, bits)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def mean_error(rows: np.ndarray, centroids: np.ndarray) -> float:
    """Return the mean squared distance of rows (B, D) to their nearest of centroids (K, D)."""
    _, distances = nearest_centroids(rows, centroids)
    return float(distances.mean())
