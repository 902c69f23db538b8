"""Lloyd's k-means on arrays, the algorithm that `ResidualKMeans` distributes.

In: embeddings (B, D) and centroids (K, D), float32. Out: codes, sums per centroid, new centroids.
On grid values (see `grid`) every result is exact; on any values it is the same on every CPU.

Source: QARM, arXiv 2411.11739, section 3.2; scikit-learn's ``cluster/_kmeans.py``; k-means++ by Arthur, Vassilvitskii.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from qarm_features.quantizers.grid import ordered_row_sums

_SCORE_BYTES = 1 << 21  # scores of one block of rows, (rows, K), stay in the CPU's cache
_DIFFERENCE_ELEMENTS = 1 << 21
_SAMPLE_BLOCK = 4096  # rows


def nearest_codes(embeddings: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Finds the nearest centroid of each row.

    Float32 matrix products decide almost all rows. Rows whose two best scores are closer than float32's rounding error
    are decided by float64 products, and what is left by float64 differences summed in a fixed order.

    Args:
        embeddings: (B, D) float32, finite.
        centroids: (K, D) float32, finite.

    Returns:
        (B,) int32 in [0, K); the lowest index among equally near centroids.
    """
    codes = np.empty(len(embeddings), np.int32)
    size = max(64, _SCORE_BYTES // (4 * max(len(centroids), embeddings.shape[1])))
    for start in range(0, len(embeddings), size):
        block = embeddings[start : start + size]
        block_codes, unsure = _nearest_by_scores(block, centroids)
        if unsure.size:
            rows, wide = block[unsure].astype(np.float64), centroids.astype(np.float64)
            sure_codes, tied = _nearest_by_scores(rows, wide)
            if tied.size:
                sure_codes[tied] = _nearest_by_differences(rows[tied], wide)
            block_codes[unsure] = sure_codes
        codes[start : start + size] = block_codes
    return codes


def _nearest_by_scores(rows: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the argmin of ||c||^2 - 2 x.c per row, and the indices of the rows where rounding may have decided it.

    Source: the error bound of a dot product in any order, Higham, Accuracy and Stability, section 3.1.
    """
    dim = rows.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow gives inf or nan, which count as unsure
        squares = np.einsum("kd,kd->k", centroids, centroids, dtype=np.float64)
        scores = rows @ (-2 * centroids).T  # (B, K)
        scores += squares.astype(rows.dtype)
        every = np.arange(len(rows))
        codes = scores.argmin(axis=1)
        best = scores[every, codes]
        scores[every, codes] = np.inf
        gap = scores[every, scores.argmin(axis=1)] - best
        row_norms = np.sqrt(np.einsum("ij,ij->i", rows, rows)).astype(np.float64)
        largest = np.sqrt(squares.max())
        rounding = np.finfo(rows.dtype).eps / 2
        bound = 2.2 * rounding * ((dim + 2) * 2 * largest * row_norms + 2 * largest**2)
        bound += 8 * (dim + 2) * float(np.finfo(rows.dtype).tiny)  # products below it may have been flushed to zero
        unsure = np.flatnonzero(~(gap > bound))
    return codes, unsure if len(centroids) > 1 else unsure[:0]


def _nearest_by_differences(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Returns the argmin of ||x - c||^2 per row, (B,), from (B, D) and (K, D) float64."""
    num_centroids, dim = centroids.shape
    codes = np.empty(len(rows), np.int64)
    size = max(1, _DIFFERENCE_ELEMENTS // (num_centroids * dim))
    for start in range(0, len(rows), size):
        differences = rows[start : start + size, None] - centroids  # (B, K, D)
        distances = ordered_row_sums(np.square(differences, out=differences).reshape(-1, dim))
        codes[start : start + size] = distances.reshape(-1, num_centroids).argmin(axis=1)
    return codes


def nearest_centroids(embeddings: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest centroid of each row and its distance.

    Args:
        embeddings: (B, D) float32, finite.
        centroids: (K, D) float32, finite.

    Returns:
        codes (B,) int32 in [0, K), the lowest index among equally near centroids, and squared distances (B,) float64.
    """
    codes = nearest_codes(embeddings, centroids)
    differences = embeddings.astype(np.float64) - centroids[codes]
    return codes, np.einsum("ij,ij->i", differences, differences)


def assign_codes(embeddings: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Quantizes embeddings level by level: the nearest centroid, then the same with what it left over.

    Args:
        embeddings: (B, D) float32, finite.
        codebooks: (L, K, D) float32.

    Returns:
        (B, L) int32 in [0, K).
    """
    codes = np.empty((len(embeddings), len(codebooks)), np.int32)
    residuals = embeddings
    for level, centroids in enumerate(codebooks):
        codes[:, level] = nearest_codes(residuals, centroids)
        residuals = residuals - centroids[codes[:, level]]
    return codes


def lloyd_step(embeddings: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Assigns every row and adds up what the new centroids need.

    Args:
        embeddings: (B, D) float32, finite.
        centroids: (K, D) float32, finite.

    Returns:
        sums (K, D) float64 of the rows of each centroid, counts (K,) int64 of them, and the sum of squared distances
        to the given centroids, at least 0. Sums and counts are exact on grid values, the distances are rounded.
    """
    num_centroids = len(centroids)
    sums, counts, energy = np.zeros(centroids.shape), np.zeros(num_centroids, np.int64), 0.0
    size = max(2048, num_centroids)  # a block's sums are (K, D), so a block has K rows at least
    for start in range(0, len(embeddings), size):
        block = embeddings[start : start + size]
        codes = nearest_codes(block, centroids)
        wide = block.astype(np.float64)
        one_hot = csr_array((np.ones(len(codes)), codes, np.arange(len(codes) + 1)), shape=(len(codes), num_centroids))
        sums += one_hot.T @ wide
        counts += np.bincount(codes, minlength=num_centroids)
        energy += float(np.vdot(wide, wide))
    explained = np.vdot(centroids, 2 * sums - counts[:, None] * centroids.astype(np.float64))
    return sums, counts, max(0.0, energy - float(explained))


def update_centroids(sums: np.ndarray, counts: np.ndarray, centroids: np.ndarray, bits: int) -> np.ndarray:
    """Moves each centroid to the mean of its rows, rounded to multiples of ``2**-bits``; one without rows stays.

    Args:
        sums: (K, D) float64.
        counts: (K,) int64.
        centroids: (K, D) float32, before the update.
        bits: of the grid, in [1, 22].

    Returns:
        (K, D) float32. The nearest grid point to a mean is the best one, so the error never rises by the rounding.
    """
    means = sums / np.maximum(counts, 1)[:, None]
    rounded = (np.ldexp(np.rint(np.ldexp(means, bits)), -bits) + 0.0).astype(np.float32)
    return np.where(counts[:, None] > 0, rounded, centroids)


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
    repaired, shares = centroids.copy(), counts.astype(np.float64)
    for empty in np.flatnonzero(counts == 0):
        donor = int(shares.argmax())
        direction = 2 * generator.integers(0, 2, size=centroids.shape[1]) - 1
        repaired[empty] = repaired[donor] + np.float32(offset) * direction.astype(np.float32)
        shares[donor] /= 2
        shares[empty] = shares[donor]
    return repaired


def draw_centroids(sample: np.ndarray, weights: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draws initial centroids by k-means++, for many centroids ``size // 64`` at a time.

    Args:
        sample: (B, D) float32 on the grid.
        weights: (B,) how many rows each stands for, above 0.
        size: K, at least 1.
        generator: of the draws.

    Returns:
        (K, D) float32, fewer where the sample has fewer distinct rows.
    """
    picked = [sample[_draw(weights, 1, generator)]]
    distances = _squared_distances(sample, picked[0])
    while (missing := size - sum(map(len, picked))) > 0:
        if not distances.any():
            break
        draws = _draw(weights * distances, min(missing, max(1, size // 64)), generator)
        picked.append(np.unique(sample[draws], axis=0))
        distances = np.minimum(distances, _squared_distances(sample, picked[-1]))
    return np.concatenate(picked)


def _draw(odds: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draws indices of odds (B,), each at least 0, in proportion to them; never one of odds 0."""
    cumulated = np.cumsum(odds)  # in order, unlike a sum, so the same on every CPU
    below = np.nextafter(cumulated[-1], 0)
    return np.searchsorted(cumulated, np.minimum(generator.random(size) * cumulated[-1], below), side="right")


def _squared_distances(sample: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Returns the squared distance (B,) of each row (B, D) to the nearest of (K, D), float64, exact on the grid."""
    centroids, distances = picked.astype(np.float64), np.empty(len(sample))
    for start in range(0, len(sample), _SAMPLE_BLOCK):
        rows = sample[start : start + _SAMPLE_BLOCK].astype(np.float64)
        scores = np.einsum("kd,kd->k", centroids, centroids) - 2 * (rows @ centroids.T)
        distances[start : start + _SAMPLE_BLOCK] = np.einsum("ij,ij->i", rows, rows) + scores.min(axis=1)
    return distances
