"""The nearest centroids after some of the centroids moved, at a lower cost than a new search.

In: rows (B, D), their codes (B,) before, the centroids (K, D), and which of them moved. Out: the codes now, exactly those of
``lloyd.nearest_codes``. If the centroid of a row did not move, that centroid or one that moved is the nearest. Only the other
rows are compared with all centroids. When most clusters have settled, a step costs a third of the first step.
"""

from __future__ import annotations

import numpy as np

from qarm_features.quantizers.arrays.blas_buffers import touch_blas_buffers
from qarm_features.quantizers.arrays.lloyd import SCORE_BYTES, nearest_codes, rounding_bound


def nearest_after_moves(
    embeddings: np.ndarray, before: np.ndarray, centroids: np.ndarray, moved: np.ndarray
) -> np.ndarray:
    """Find the nearest centroid of each row after some centroids moved.

    Args:
        embeddings: Rows (B, D) float32, finite.
        before: Codes (B,) int32 of the same rows before the centroids moved.
        centroids: Centroids (K, D) float32, finite, at their new places.
        moved: True (K,) for each centroid that differs from before in any bit.

    Returns:
        Codes (B,) int32 in [0, K), the lowest index among equally near centroids.

    Example:
        >>> rows, centroids = np.array([[0.0], [4.0]], np.float32), np.array([[3.0], [5.0]], np.float32)
        >>> nearest_after_moves(rows, np.array([0, 1]), centroids, np.array([True, False])).tolist()
        [0, 0]
    """
    codes = np.array(before, np.int32)
    own_moved = moved[codes]
    all_again, others = np.flatnonzero(own_moved), np.flatnonzero(~own_moved)
    if len(all_again):
        codes[all_again] = nearest_codes(embeddings[all_again], centroids)
    if len(others) and moved.any():
        codes[others] = _own_or_moved(embeddings[others], codes[others], centroids, np.flatnonzero(moved))
    return codes


def _own_or_moved(rows: np.ndarray, own: np.ndarray, centroids: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Return the nearest (B,) of the own centroid of each row (B,) and the centroids that moved (M,)."""
    touch_blas_buffers()
    squares = np.einsum("kd,kd->k", centroids, centroids, dtype=np.float64)
    factors = np.concatenate([-2 * centroids[moved].T, squares[moved][None].astype(np.float32)])  # (D + 1, M)
    codes, gaps = own.copy(), np.empty(len(rows), np.float32)
    size = min(len(rows), max(256, SCORE_BYTES // (4 * len(moved))))
    with_one, scores = np.ones((size, rows.shape[1] + 1), np.float32), np.empty((size, len(moved)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow gives inf or nan, which count as undecided
        for start in range(0, len(rows), size):
            block, mine = rows[start : start + size], own[start : start + size]
            part, each = scores[: len(block)], np.arange(len(block))
            with_one[: len(block), :-1] = block
            np.matmul(with_one[: len(block)], factors, out=part)
            nearest = part.argmin(axis=1)
            best = part[each, nearest]
            part[each, nearest] = np.inf
            second = part.min(axis=1)
            score = squares[mine].astype(np.float32) - 2 * np.einsum("ij,ij->i", block, centroids[mine])
            stays = score < best
            codes[start : start + size] = np.where(stays, mine, moved[nearest])
            gaps[start : start + size] = np.where(stays, best - score, np.minimum(score, second) - best)
        bound = rounding_bound(rows, float(np.sqrt(squares.max())))
    unsure = np.flatnonzero(~(gaps > bound))
    codes[unsure] = nearest_codes(rows[unsure], centroids)
    return codes
