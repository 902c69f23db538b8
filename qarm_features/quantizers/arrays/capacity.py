"""Prices that keep codes within a capacity while residual k-means is fitted.

In: the number of rows of each code after a step. Out: a price per code (K,), at least 0, which the next step adds to the
squared distances of that code. The price of a code over capacity rises, so that rows at its border get other codes. The
price of a code below capacity falls, down to 0. Prices are used in the fit only. The codes of a model are those of the
nearest centroids.

A price is the square of a further coordinate of the centroid. Rows have a zero in its place: ``||(x, 0) - (c, r)||^2 =
||x - c||^2 + r^2``. Hence an exact search for nearest centroids finds the cheapest ones exactly.

Source: power diagrams as least-squares assignment under capacities, Aurenhammer, Hoffmann, Aronov, Algorithmica 1998.
"""

from __future__ import annotations

import math

import numpy as np

from qarm_features.quantizers.arrays.grid import Grid
from qarm_features.quantizers.arrays.splits import halves

_SPLIT_ABOVE = 1.25  # load, relative to the capacity, above which a code is split, as prices would take too many steps
_RATE = 0.05  # rise of a price in a step at twice the capacity, relative to the mean error; larger rates oscillate


class Prices:
    """The prices of the codes of a level, all 0 without a capacity.

    They depend on exact counts and on sums in a fixed order, so they are the same to the last bit for every partitioning.
    """

    def __init__(self, size: int, capacity: float, grid: Grid) -> None:
        """Set all prices to 0.

        Args:
            size: Number of codes K.
            capacity: Number of rows that a code may hold, relative to the mean; above 1, or 0 for no limit.
            grid: Grid of the fit.
        """
        self._capacity, self._grid = capacity, grid
        self._prices = np.zeros(size)

    def append_to(self, centroids: np.ndarray) -> np.ndarray:
        """Add the coordinate of the prices to centroids.

        Args:
            centroids: Centroids (K, D) float32 on the grid.

        Returns:
            Centroids (K, D + 1) float32 on the grid, or the given ones if there is no capacity.
        """
        if not self._capacity:
            return centroids
        return np.column_stack([centroids, self._grid.round(np.sqrt(self._prices).astype(np.float32))])

    def update(self, counts: np.ndarray, remaining: np.ndarray, mean_error: float) -> None:
        """Raise and lower the prices after a step.

        Args:
            counts: Number of rows (K,) that each code held in the step.
            remaining: Same counts (K,) with 0 for each code that was moved to split another one; it takes the price of
                that other one.
            mean_error: Mean squared error of a row in the step, in squared grid steps.
        """
        if not self._capacity:
            return
        excess = np.minimum(counts / self._allowed(counts) - 1, 1)  # at least -1
        scale = math.ldexp(_RATE * mean_error, -2 * self._grid.bits)
        self._prices = np.maximum(0, self._prices + scale * excess)
        for moved, split in halves(remaining):
            self._prices[moved] = self._prices[split]

    def capacity_holds(self, counts: np.ndarray) -> bool:
        """Return True if no code holds more rows (K,) than the capacity."""
        return not self._capacity or bool(counts.max() <= self._allowed(counts))

    def _allowed(self, counts: np.ndarray) -> float:
        """Return the number of rows that a code may hold."""
        return self._capacity * float(counts.sum()) / len(counts)


def split_load(max_load: float, capacity: float) -> float:
    """Return the load above which early steps split a code, relative to the mean, or 0 to split none.

    Args:
        max_load: Load that the user asked for, or 0.
        capacity: Capacity that the user asked for, or 0.

    Example:
        >>> split_load(0.0, 2.0), split_load(3.0, 2.0)
        (2.5, 3.0)
    """
    return max_load or _SPLIT_ABOVE * capacity


def with_price_column(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Add a zero to each row where centroids have the coordinate of their prices.

    Args:
        rows: Rows (B, D) float32.
        centroids: Centroids (K, D + 1), or (K, D) without prices.

    Returns:
        Rows (B, D + 1) float32, or the given ones if the centroids have no prices.
    """
    if rows.shape[1] == centroids.shape[1]:
        return rows
    return np.column_stack([rows, np.zeros(len(rows), np.float32)])
