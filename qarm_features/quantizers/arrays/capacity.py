"""Prices that keep codes within a capacity while residual k-means is fitted.

In: what each code holds after a step. Out: a price per code (K,), at least 0, that the next step adds to its squared
distances: a code over capacity grows dearer, and rows at its border go elsewhere; one below grows cheaper, down to 0.
Prices act in the fit only; the codes of a model are those of the nearest centroids.

A price is the square of one more coordinate of the centroid, where rows have a zero: ``||(x, 0) - (c, r)||^2 =
||x - c||^2 + r^2``. So whatever finds nearest centroids exactly finds the cheapest ones exactly.

Source: power diagrams as least-squares assignment under capacities, Aurenhammer, Hoffmann, Aronov, Algorithmica 1998.
"""

from __future__ import annotations

import math

import numpy as np

from qarm_features.quantizers.arrays.grid import Grid
from qarm_features.quantizers.arrays.splits import halves

_SPLIT_ABOVE = 1.25  # times capacity; a code that holds more is split, as prices would take too many steps
_RATE = 0.05  # of the mean error that a price rises by in a step, at twice the capacity; more oscillates


class Prices:
    """The prices of a level; without a capacity there are none.

    They depend on exact counts and on sums in a fixed order, so they are the same to the last bit for every partitioning.
    """

    def __init__(self, size: int, capacity: float, grid: Grid):
        """Starts at 0 for K = size codes, of which each may hold capacity (above 1, or 0: any) times the mean."""
        self._capacity, self._grid = capacity, grid
        self._prices = np.zeros(size)

    def beside(self, centroids: np.ndarray) -> np.ndarray:
        """Returns centroids (K, D) with their prices' coordinate, (K, D + 1) float32 on the grid, or as they are."""
        if not self._capacity:
            return centroids
        return np.column_stack([centroids, self._grid.round(np.sqrt(self._prices).astype(np.float32))])

    def follow(self, counts: np.ndarray, kept: np.ndarray, mean_error: float) -> None:
        """Goes on by one step.

        Args:
            counts: (K,) what each code held in the step.
            kept: (K,) the same with 0 for codes that were moved to split another, whose price they take on.
            mean_error: of the step, by row, in squared grid steps.
        """
        if not self._capacity:
            return
        excess = np.minimum(counts / self._allowed(counts) - 1, 1)  # at least -1
        scale = math.ldexp(_RATE * mean_error, -2 * self._grid.bits)
        self._prices = np.maximum(0, self._prices + scale * excess)
        for moved, split in halves(kept):
            self._prices[moved] = self._prices[split]

    def capacity_holds(self, counts: np.ndarray) -> bool:
        """Tells whether no code (K,) holds more than the capacity."""
        return not self._capacity or bool(counts.max() <= self._allowed(counts))

    def _allowed(self, counts: np.ndarray) -> float:
        return self._capacity * float(counts.sum()) / len(counts)


def split_load(max_load: float, capacity: float) -> float:
    """Returns above how many times the mean a code is split in early steps, 0 for never."""
    return max_load or _SPLIT_ABOVE * capacity


def beside_prices(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Returns rows (B, D) float32 with a zero where centroids (K, D + 1) have their prices, or as they are."""
    if rows.shape[1] == centroids.shape[1]:
        return rows
    return np.column_stack([rows, np.zeros(len(rows), np.float32)])
