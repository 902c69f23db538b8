"""Codebooks of levels that differ in size, in one array.

In: one array of centroids (K, D) per level. Out: codebooks (L, K, D) float32, in which smaller levels end in rows of NaN.
Readers take the centroids from ``levels_of``, which leaves these rows out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pad_levels(levels: list[np.ndarray]) -> np.ndarray:
    """Put the levels into one array.

    Args:
        levels: Centroids (K, D) of each level.

    Returns:
        Codebooks (L, K, D) float32, where K is that of the largest level; smaller levels end in rows of NaN.

    Example:
        >>> pad_levels([np.zeros((3, 2)), np.zeros((1, 2))]).shape
        (2, 3, 2)
    """
    size = max(map(len, levels))
    codebooks = np.full((len(levels), size, levels[0].shape[1]), np.nan, np.float32)
    for padded, centroids in zip(codebooks, levels):
        padded[: len(centroids)] = centroids
    return codebooks


def level_sizes(codebooks: np.ndarray) -> list[int]:
    """Return the number of centroids K of each level of codebooks (L, K, D): its rows up to the last that is not all NaN.

    Example:
        >>> level_sizes(pad_levels([np.zeros((3, 2)), np.zeros((1, 2))]))
        [3, 1]
    """
    used = ~np.isnan(codebooks).all(axis=2)  # (L, K)
    return [int(np.flatnonzero(rows)[-1]) + 1 if rows.any() else 0 for rows in used]


def levels_of(codebooks: np.ndarray) -> list[np.ndarray]:
    """Return the centroids (K, D) of each level of codebooks (L, K, D), without padding."""
    return [centroids[:size] for centroids, size in zip(codebooks, level_sizes(codebooks))]


def permute_levels(codebooks: np.ndarray, labels: Sequence[np.ndarray]) -> np.ndarray:
    """Relabel the centroids of the first levels.

    Args:
        codebooks: Codebooks (L, K, D).
        labels: Permutation (K,) of each of the first levels: ``labels[l][c]`` is the new code of centroid c of level l.

    Returns:
        Codebooks (L, K, D).

    Example:
        >>> permute_levels(np.array([[[5.0], [7.0], [9.0]]]), [np.array([1, 2, 0])])[0, :, 0].tolist()
        [9.0, 5.0, 7.0]
    """
    permuted = codebooks.copy()
    for level, new_codes in enumerate(labels):
        permuted[level, new_codes] = codebooks[level, : len(new_codes)]
    return permuted


def check_codebooks(codebooks: np.ndarray, name: str, advice: str) -> None:
    """Refuse codebooks that cannot quantize.

    Args:
        codebooks: Array that should have shape (L, K, D).
        name: Name of the argument, for the error.
        advice: Advice to the user, for the error.

    Raises:
        ValueError: The shape is another one, a level is empty, or a value is not finite.
    """
    if codebooks.ndim != 3 or 0 in codebooks.shape:
        raise ValueError(f"{name} has shape {codebooks.shape}, must be (L, K, D). Pass all levels in one array.")
    bad = sum(int(np.count_nonzero(~np.isfinite(centroids))) for centroids in levels_of(codebooks))
    bad += sum(codebooks[0].size for size in level_sizes(codebooks) if size == 0)
    if bad:
        raise ValueError(f"{name} has {bad} NaN or infinite values, must be finite. {advice}")
