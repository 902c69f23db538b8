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
    distinct, user = np.unique(users, return_inverse=True)
    if len(distinct) < 2:
        return None
    sums, sizes = np.bincount(user, weights=values), np.bincount(user)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(DRAWS):
        drawn = rng.integers(len(distinct), size=len(distinct))
        means.append(sums[drawn].sum() / sizes[drawn].sum())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
