"""The settings of a residual k-means fit, after ``ResidualKMeans`` checked its params.

In: the params of the estimator. Out: one value with the same names in snake case, for ``fit_levels`` and ``starts``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class LevelSettings(NamedTuple):
    """Checked settings of ``ResidualKMeans``.

    Attributes:
        codebook_sizes: Number of centroids K of each level, at least 1.
        max_iter: Maximal number of Lloyd steps of a level, at least 1.
        tol: Squared shift of the centroids, relative to the variance of the data, at which a level stops, at least 0.
        error_tol: Relative fall of the error in a step below which a level stops, at least 0.
        seed: Seed for all draws, in [0, 2**64).
        initial_codebooks: Centroids (K, D) float32 of each level to start from, or None to draw them.
        init_mode: How initial centroids are drawn: ``k-means++``, ``k-means||`` or ``random``.
        warmup_iter: Number of Lloyd steps on the sample before those over all rows, at least 0.
        spherical: True if the centroids of level 0 have norm 1.
        max_load: Number of rows of a cluster, relative to the mean, above which it is split; above 1, or 0 for no splits.
        capacity: Number of rows that a code may hold, relative to the mean; above 1, or 0 for no limit.
    """

    codebook_sizes: list[int]
    max_iter: int
    tol: float
    error_tol: float
    seed: int
    initial_codebooks: list[np.ndarray] | None
    init_mode: str
    warmup_iter: int
    spherical: bool
    max_load: float
    capacity: float
