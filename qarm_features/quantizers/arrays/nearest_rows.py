"""The k nearest rows by inner product on arrays: what `NearestItems` does with one shard of its bank.

In: queries (B, D), the rows (N, D) of a shard and the best found in the shards before. Out: the best of both. Float32 matrix
products find the candidates within a bound on their rounding error; only these few are compared, by float64 products summed
in a fixed order. So the result is the same for any blocks, shards and CPU, and equal similarities go to the lower position.

Source: the error bound of a dot product in any order, Higham, Accuracy and Stability, section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qarm_features.quantizers.arrays.grid import ordered_row_sums

NO_POSITION = np.iinfo(np.int64).max
_QUERY_BLOCK, _ROW_BLOCK = 256, 8192  # scores of a block, 8 MiB, stay near the CPU
_GROUP = 64  # rows of which only the largest score is looked at first
_PRODUCT_ELEMENTS = 1 << 19


class Rows(NamedTuple):
    """The rows of one shard.

    Attributes:
        embeddings: (N, D) float32, finite.
        copies: (N,) int32, how many rows before it in the shard are equal to it.
        offset: position of the first row among the rows of all shards, at least 0.
        max_norm: largest Euclidean norm of a row.
    """

    embeddings: np.ndarray
    copies: np.ndarray
    offset: int
    max_norm: float


class Nearest(NamedTuple):
    """The best k rows of each query, the best first; where there are fewer, similarity -inf and ``NO_POSITION``.

    Attributes:
        similarities: (B, k) float64 inner products.
        positions: (B, k) int64 positions of rows among the rows of all shards.
    """

    similarities: np.ndarray
    positions: np.ndarray

    @classmethod
    def none(cls, num_queries: int, k: int) -> Nearest:
        """Returns what is known before the first shard."""
        return cls(np.full((num_queries, k), -np.inf), np.full((num_queries, k), NO_POSITION))


def merge_shard(queries: np.ndarray, own: np.ndarray, rows: Rows, best: Nearest) -> Nearest:
    """Looks for nearer rows in a shard.

    Args:
        queries: (B, D) float32, finite.
        own: (B,) int64, the row of the shard that is the query itself and is left out, -1 where none is.
        rows: the shard.
        best: found so far.

    Returns:
        The best of both.
    """
    parts = []
    for start in range(0, len(queries), _QUERY_BLOCK):
        block = slice(start, start + _QUERY_BLOCK)
        known = Nearest(best.similarities[block], best.positions[block])
        pairs = _candidates(queries[block], rows, known)
        parts.append(merge_candidates(queries[block], own[block], rows, known, *pairs))
    return Nearest(*(np.concatenate(arrays) for arrays in zip(*parts))) if parts else best


def merge_candidates(
    queries: np.ndarray, own: np.ndarray, rows: Rows, best: Nearest, query_at: np.ndarray, row_at: np.ndarray
) -> Nearest:
    """Compares given rows with the best so far, exactly.

    Args:
        queries: (B, D) float32, finite.
        own: (B,) int64, the row left out, -1 where none is.
        rows: the shard.
        best: found so far.
        query_at: (P,) index of the query of each candidate, in [0, B).
        row_at: (P,) index of its row, in [0, N).

    Returns:
        The best of both.
    """
    k = best.positions.shape[1]
    kept = (row_at != own[query_at]) & (rows.copies[row_at] <= k)  # of equal rows, k + 1 are more than enough
    query_at, row_at = query_at[kept], row_at[kept]
    every = np.repeat(np.arange(len(queries)), k)
    query_at = np.concatenate([every, query_at])
    similarities = np.concatenate(
        [best.similarities.ravel(), inner_products(queries, rows.embeddings, query_at[len(every) :], row_at)]
    )
    positions = np.concatenate([best.positions.ravel(), row_at + rows.offset])
    order = np.lexsort((positions, -similarities, query_at))
    counts = np.bincount(query_at, minlength=len(queries))
    first = order[(np.cumsum(counts) - counts)[:, None] + np.arange(k)]  # each query has k at least: the known ones
    return Nearest(similarities[first], positions[first])


def inner_products(queries: np.ndarray, rows: np.ndarray, query_at: np.ndarray, row_at: np.ndarray) -> np.ndarray:
    """Returns the inner products (P,) float64 of pairs, each summed in one fixed order.

    Args:
        queries: (B, D) float32.
        rows: (N, D) float32.
        query_at: (P,) indices of queries.
        row_at: (P,) indices of rows.
    """
    found = np.empty(len(query_at))
    size = max(1, _PRODUCT_ELEMENTS // queries.shape[1])
    for start in range(0, len(found), size):
        pair = slice(start, start + size)
        products = queries[query_at[pair]].astype(np.float64)
        products *= rows[row_at[pair]]
        found[pair] = ordered_row_sums(products)
    return found


def _candidates(queries: np.ndarray, rows: Rows, best: Nearest) -> tuple[np.ndarray, np.ndarray]:
    """Returns (query, row) indices of all pairs that may be among the k best, and of few others."""
    k, num_rows = best.positions.shape[1], len(rows.embeddings)
    norms = np.sqrt(np.einsum("bd,bd->b", queries, queries, dtype=np.float64))
    bound = _rounding_bound(norms * rows.max_norm, queries.shape[1])
    least = best.similarities[:, -1] - bound  # of scores that may still be among the k best
    zero = norms == 0
    least[zero] = np.inf  # all rows are equally near to nothing: the first ones are taken, below
    found = []
    for start in range(0, num_rows, _ROW_BLOCK):
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow gives inf or nan, which pass
            scores = queries @ rows.embeddings[start : start + _ROW_BLOCK].T
        query_at, row_at, score = _passing(scores, k + 1, 2 * bound, least)
        found.append((query_at, row_at + start, score))
    query_at, row_at, score = (np.concatenate(arrays) for arrays in zip(*found))
    kept = ~(score < least[query_at])  # least has risen since
    first = np.arange(min(k + 1, num_rows))
    of_zero = np.flatnonzero(zero)
    return (
        np.concatenate([query_at[kept], np.repeat(of_zero, len(first))]),
        np.concatenate([row_at[kept], np.tile(first, len(of_zero))]),
    )


def _passing(scores: np.ndarray, count: int, margin: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, ...]:
    """Raises ``least`` (B,) in place to the count-th largest score less the margin, and returns what passes it.

    Scores are looked at in groups: where the largest of a group does not pass, none does. A NaN always passes.
    """
    num_queries, num_rows = scores.shape
    width = max(1, min(_GROUP, num_rows // (4 * count)))
    if num_rows % width:
        rest = np.full((num_queries, -num_rows % width), -np.inf, scores.dtype)
        scores = np.concatenate([scores, rest], axis=1)
    grouped = scores.reshape(num_queries, width, -1)  # a group holds every G-th row, so that maxima run along memory
    peaks = grouped.max(axis=1)
    if (groups := peaks.shape[1]) >= count:
        np.maximum(least, np.partition(peaks, groups - count, axis=1)[:, groups - count] - margin, out=least)
    floor = np.nextafter(least.astype(np.float32), np.float32(-np.inf))
    query_at, group = np.nonzero(~(peaks < floor[:, None]))
    inside = grouped[query_at, :, group]  # (P, width)
    pair, member = np.nonzero(~(inside < floor[query_at][:, None]))
    row_at = member * groups + group[pair]
    real = row_at < num_rows  # not of the filling, which passes only where all does
    return query_at[pair][real], row_at[real], inside[pair, member][real]


def _rounding_bound(norm_products: np.ndarray, dim: int) -> np.ndarray:
    """Returns a bound (B,) on the error of float32 inner products, and of the float64 ones on top of it."""
    info = np.finfo(np.float32)
    return 1.1 * (dim + 2) * (info.eps / 2) * norm_products + 8 * (dim + 2) * float(info.tiny)
