"""Lloyd's k-means on arrays, the algorithm that ``ResidualKMeans`` distributes.

In: embeddings (B, D) and centroids (K, D), float32. Out: codes, sums per centroid, new centroids. On the values of a ``grid``
every result is exact. On any values it is the same on every CPU.

Source: QARM, arXiv 2411.11739, section 3.2; scikit-learn's ``cluster/_kmeans.py``.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from qarm_features.quantizers.arrays.blas_buffers import touch_blas_buffers
from qarm_features.quantizers.arrays.codebooks import levels_of
from qarm_features.quantizers.arrays.grid import ordered_row_sums
from qarm_features.quantizers.arrays.torch_products import nearest_by_torch

SCORE_BYTES = 1 << 20  # size of the scores (rows, K) of one block of rows, so that they stay in the CPU's cache
_DIFFERENCE_ELEMENTS = 1 << 21
_UNSURE_ROWS = 1 << 14  # number of rows that are decided in float64 at a time
_SUM_BYTES = 1 << 23  # size of the rows that are widened to float64 at a time


def nearest_codes(embeddings: np.ndarray, centroids: np.ndarray, device: str | None = None) -> np.ndarray:
    """Find the nearest centroid of each row.

    Float32 matrix products decide almost all rows. Float64 products decide the rows whose two best scores are closer than
    the rounding error of float32. Float64 differences, summed in a fixed order, decide the few rows that remain.

    Args:
        embeddings: Rows (B, D) float32, finite.
        centroids: Centroids (K, D) float32, finite.
        device: Torch device of the float32 products, such as ``cuda:0``; None uses numpy. The codes are the same.

    Returns:
        Codes (B,) int32 in [0, K), the lowest index among equally near centroids.

    Example:
        >>> rows = np.array([[0.9, 0.1], [0.0, 0.8]], np.float32)
        >>> nearest_codes(rows, np.eye(2, dtype=np.float32)).tolist()
        [0, 1]
    """
    if device is None or len(centroids) == 1 or len(embeddings) == 0:
        codes, unsure = _in_blocks(embeddings, centroids)
    else:
        codes, gaps = nearest_by_torch(embeddings, centroids, device)
        largest = np.sqrt(np.einsum("kd,kd->k", centroids, centroids, dtype=np.float64).max())
        unsure = np.flatnonzero(~(gaps > rounding_bound(embeddings, float(largest))))
    for start in range(0, len(unsure), _UNSURE_ROWS):
        rows = unsure[start : start + _UNSURE_ROWS]
        wide, wide_centroids = embeddings[rows].astype(np.float64), centroids.astype(np.float64)
        codes[rows], tied = _in_blocks(wide, wide_centroids)
        if tied.size:
            codes[rows[tied]] = _nearest_by_differences(wide[tied], wide_centroids)
    return codes


def _in_blocks(embeddings: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find nearest centroids by matrix products, in blocks of rows and in the precision of the rows.

    The score ||c||^2 - 2 x.c is one product of (x, 1) and (-2 c, ||c||^2).

    Returns:
        Codes (B,) int32, and the indices of the rows that this precision cannot decide.
    """
    num_rows, dim = embeddings.shape
    codes = np.zeros(num_rows, np.int32)
    if num_rows == 0 or len(centroids) == 1:
        return codes, np.empty(0, np.int64)
    touch_blas_buffers()
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow gives inf or nan, which count as undecided
        squares = np.einsum("kd,kd->k", centroids, centroids, dtype=np.float64)
        factors = np.concatenate([-2 * centroids.T, squares[None].astype(centroids.dtype)])  # (D + 1, K)
        size = min(num_rows, max(256, SCORE_BYTES // (embeddings.itemsize * len(centroids))))
        rows, every = np.ones((size, dim + 1), embeddings.dtype), np.arange(size)
        scores, gaps = np.empty((size, len(centroids)), embeddings.dtype), np.empty(num_rows, embeddings.dtype)
        for start in range(0, num_rows, size):
            count = min(size, num_rows - start)
            rows[:count, :dim] = embeddings[start : start + count]
            part, each = scores[:count], every[:count]
            np.matmul(rows[:count], factors, out=part)
            nearest = part.argmin(axis=1)
            best = part[each, nearest]
            part[each, nearest] = np.inf
            codes[start : start + count] = nearest
            np.subtract(part[each, part.argmin(axis=1)], best, out=gaps[start : start + count])
        bound = rounding_bound(embeddings, float(np.sqrt(squares.max())))
        return codes, np.flatnonzero(~(gaps > bound))


def rounding_bound(rows: np.ndarray, largest: float) -> np.ndarray:
    """Return the distance (B,) of two scores above which rounding cannot have changed their order.

    Args:
        rows: Rows (B, D), float32 or float64.
        largest: Largest norm of a centroid.

    Source: the error bound of a dot product in any order, Higham, Accuracy and Stability, section 3.1.
    """
    dim, precision = rows.shape[1], np.finfo(rows.dtype)
    row_norms = np.sqrt(np.einsum("ij,ij->i", rows, rows)).astype(np.float64)
    bound = 2.2 * float(precision.eps) / 2 * (dim + 3) * largest * (2 * row_norms + largest)
    return bound + 8 * (dim + 3) * float(precision.tiny)  # smaller products may have been flushed to zero


def _nearest_by_differences(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the argmin of ||x - c||^2 per row, (B,), from (B, D) and (K, D) float64."""
    num_centroids, dim = centroids.shape
    codes = np.empty(len(rows), np.int64)
    size = max(1, _DIFFERENCE_ELEMENTS // (num_centroids * dim))
    for start in range(0, len(rows), size):
        differences = rows[start : start + size, None] - centroids  # (B, K, D)
        distances = ordered_row_sums(np.square(differences, out=differences).reshape(-1, dim))
        codes[start : start + size] = distances.reshape(-1, num_centroids).argmin(axis=1)
    return codes


def nearest_centroids(embeddings: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest centroid of each row and its distance.

    Args:
        embeddings: Rows (B, D) float32, finite.
        centroids: Centroids (K, D) float32, finite.

    Returns:
        Codes (B,) int32 in [0, K), the lowest index among equally near centroids, and squared distances (B,) float64.
    """
    codes = nearest_codes(embeddings, centroids)
    differences = embeddings.astype(np.float64) - centroids[codes]
    return codes, np.einsum("ij,ij->i", differences, differences)


def quantize(embeddings: np.ndarray, codebooks: np.ndarray, device: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Quantize embeddings level by level: find the nearest centroid, subtract it, and go on with the residual.

    Args:
        embeddings: Rows (B, D) float32, finite.
        codebooks: Codebooks (L, K, D) float32; smaller levels end in rows of NaN, see ``pad_levels``.
        device: Torch device of the products; None uses numpy.

    Returns:
        Codes (B, L) int32 in [0, K), and the residuals (B, D) float32 after the last level.
    """
    codes = np.empty((len(embeddings), len(codebooks)), np.int32)
    residuals = embeddings
    for level, centroids in enumerate(levels_of(codebooks)):
        codes[:, level] = nearest_codes(residuals, centroids, device)
        residuals = residuals - centroids[codes[:, level]]
    return codes, residuals


def assign_codes(embeddings: np.ndarray, codebooks: np.ndarray, device: str | None = None) -> np.ndarray:
    """Return the codes of ``quantize``, without the cost of the residuals after the last level.

    Args:
        embeddings: Rows (B, D) float32, finite.
        codebooks: Codebooks (L, K, D) float32; smaller levels end in rows of NaN, see ``pad_levels``.
        device: Torch device of the products; None uses numpy.

    Returns:
        Codes (B, L) int32 in [0, K).

    Example:
        >>> codebooks = np.array([[[0.0], [10.0]], [[-1.0], [1.0]]], np.float32)
        >>> assign_codes(np.array([[9.2], [0.7]], np.float32), codebooks).tolist()
        [[1, 0], [0, 1]]
    """
    codes, residuals = quantize(embeddings, codebooks[:-1], device)
    (last,) = levels_of(codebooks[-1:])
    return np.column_stack([codes, nearest_codes(residuals, last, device)])


def cluster_sums(
    embeddings: np.ndarray, codes: np.ndarray, num_centroids: int, weights: np.ndarray | None = None, bits: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Add up the rows of each centroid, without a (B, K) buffer.

    Args:
        embeddings: Rows (B, D) float32.
        codes: Codes (B,) int32 in [0, K).
        num_centroids: Number of centroids K.
        weights: Weights (B,) int64 of the rows, at least 0; None counts every row once.
        bits: Bits of the grid of the embeddings; it is used only with weights.

    Returns:
        Sums (K, D) and counts (K,) int64. Without weights, sums are float64, and exact on grid values. With weights, they
        are int64 multiples of ``2**-bits``, and exact if the weights of all rows sum up to at most 2**36.
    """
    kind = np.float64 if weights is None else np.int64
    sums, counts = np.zeros((num_centroids, embeddings.shape[1]), kind), np.zeros(num_centroids, np.int64)
    # A block has sums (K, D), so it should have at least as many rows as there are centroids.
    size = max(num_centroids, _SUM_BYTES // (8 * embeddings.shape[1]), 1)
    for start in range(0, len(embeddings), size):
        block, block_codes = embeddings[start : start + size], codes[start : start + size]
        shares = np.ones(len(block)) if weights is None else weights[start : start + size]
        wide = block.astype(np.float64) if weights is None else np.rint(np.ldexp(block, bits)).astype(np.int64)
        one_hot = csr_array((shares, block_codes, np.arange(len(block) + 1)), shape=(len(block), num_centroids))
        sums += one_hot.T @ wide
        if weights is None:
            counts += np.bincount(block_codes, minlength=num_centroids)
        else:
            np.add.at(counts, block_codes, shares)
    return sums, counts


def lloyd_step(embeddings: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Assign every row to its nearest centroid and add up the rows of each centroid.

    Args:
        embeddings: Rows (B, D) float32, finite.
        centroids: Centroids (K, D) float32, finite.

    Returns:
        Sums (K, D) float64 and counts (K,) int64 of the rows of each centroid, and the sum of squared distances to the given
        centroids, at least 0. Sums and counts are exact on grid values. The distances are rounded.
    """
    codes, distances = nearest_centroids(embeddings, centroids)
    return *cluster_sums(embeddings, codes, len(centroids)), float(distances.sum())


def update_centroids(sums: np.ndarray, counts: np.ndarray, centroids: np.ndarray, bits: int) -> np.ndarray:
    """Move each centroid to the mean of its rows, rounded to multiples of ``2**-bits``; a centroid without rows stays.

    Args:
        sums: Sums (K, D) float64 of the rows of each centroid.
        counts: Number of rows (K,) int64 of each centroid.
        centroids: Centroids (K, D) float32 before the update.
        bits: Bits of the grid, in [1, 22].

    Returns:
        Centroids (K, D) float32. The grid point that is nearest to a mean is the best one, so rounding never raises the
        error above that of the centroids before.
    """
    means = sums / np.maximum(counts, 1)[:, None]
    rounded = (np.ldexp(np.rint(np.ldexp(means, bits)), -bits) + 0.0).astype(np.float32)
    return np.where(counts[:, None] > 0, rounded, centroids)
