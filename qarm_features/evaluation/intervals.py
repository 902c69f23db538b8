"""Intervals of means by resampled users, because the pairs of one user are no independent observations.

In: one number per pair, and the user of each. Out: the bounds of 95% intervals.
"""

from __future__ import annotations

import numpy as np

DRAWS = 1000


def user_interval(values: np.ndarray, users: np.ndarray, *, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95% interval of a mean by the bootstrap over users.

    Args:
        values: (P,) numbers.
        users: (P,) users of these numbers, of any type with an order.
        seed: Seed of the draws.

    Returns:
        The bounds, or None with fewer than two users.

    Example:
        >>> low, high = user_interval(np.array([0.0, 1.0, 0.0, 1.0]), np.array([1, 2, 3, 4]))
        >>> low, high
        (0.0, 1.0)
    """
    return ratio_interval(values, np.ones(len(values)), users, seed=seed)


def ratio_interval(
    values: np.ndarray, others: np.ndarray, users: np.ndarray, *, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95% interval of a ratio of two means by the bootstrap over users.

    Args:
        values: (P,) numbers above the line.
        others: (P,) numbers below the line, at least 0.
        users: (P,) users of these numbers, of any type with an order.
        seed: Seed of the draws.

    Returns:
        The bounds, or None with fewer than two users, or if all numbers below the line are 0 in a draw.

    Example:
        >>> ratio_interval(np.array([2.0, 4.0]), np.array([1.0, 2.0]), np.array([1, 2]))
        (2.0, 2.0)
    """
    distinct, user = np.unique(users, return_inverse=True)
    if len(distinct) < 2:
        return None
    sums, sizes = np.bincount(user, weights=values), np.bincount(user, weights=others)
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(DRAWS):
        drawn = rng.integers(len(distinct), size=len(distinct))
        above, below = sums[drawn].sum(), sizes[drawn].sum()
        if not below:
            return None
        ratios.append(above / below)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
