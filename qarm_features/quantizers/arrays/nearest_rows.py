"""The k nearest rows by inner product on arrays, which ``NearestItems`` searches in each shard of its bank.

In: queries (B, D), the rows (N, D) of a shard, and the best rows of the shards before. Out: the best rows of both. Float32
matrix products find candidates within a bound on their rounding error. Float64 products, summed in a fixed order, compare
these few candidates. Hence the result is the same for any blocks, shards and CPU. Of rows with equal similarity, the one with
the lower position comes first.

Source: the error bound of a dot product in any order, Higham, Accuracy and Stability, section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qarm_features.quantizers.arrays.grid import ordered_row_sums

NO_POSITION = np.iinfo(np.int64).max
_QUERY_BLOCK, _ROW_BLOCK = 256, 8192  # a block has 8 MiB of scores, which fit into the CPU's cache
_GROUP = 64  # number of rows in a group, of which the largest score is compared first
_PRODUCT_ELEMENTS = 1 << 19


class Rows(NamedTuple):
    """The rows of one shard.

    Attributes:
        embeddings: Rows (N, D) float32, finite.
        copies: Number (N,) int32 of equal rows before each row in the shard.
        offset: Position of the first row among the rows of all shards, at least 0.
        max_norm: Largest Euclidean norm of a row.
    """

    embeddings: np.ndarray
    copies: np.ndarray
    offset: int
    max_norm: float


class Nearest(NamedTuple):
    """The best k rows of each query, the best first; empty places have similarity -inf and position ``NO_POSITION``.

    Attributes:
        similarities: Inner products (B, k) float64.
        positions: Positions (B, k) int64 among the rows of all shards.
    """

    similarities: np.ndarray
    positions: np.ndarray

    @classmethod
    def none(cls, num_queries: int, k: int) -> Nearest:
        """Return k empty places for each query, as before the first shard."""
        return cls(np.full((num_queries, k), -np.inf), np.full((num_queries, k), NO_POSITION))


def merge_shard(queries: np.ndarray, own: np.ndarray, rows: Rows, best: Nearest) -> Nearest:
    """Compare all rows of a shard with the best rows so far.

    Args:
        queries: Queries (B, D) float32, finite.
        own: Index (B,) int64 of the row that is the query itself and is left out, or -1 if the shard does not hold it.
        rows: Rows of the shard.
        best: Best rows of the shards before.

    Returns:
        The best rows of both.

    Example:
        >>> bank = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], np.float32)
        >>> rows = Rows(bank, copies=np.zeros(3, np.int32), offset=0, max_norm=1.0)
        >>> merge_shard(bank, np.arange(3), rows, Nearest.none(3, k=1)).positions.tolist()
        [[1], [2], [1]]
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
    """Compare some rows of a shard exactly with the best rows so far.

    Args:
        queries: Queries (B, D) float32, finite.
        own: Index (B,) int64 of the row that is left out, or -1.
        rows: Rows of the shard.
        best: Best rows of the shards before.
        query_at: Index (P,) of the query of each candidate, in [0, B).
        row_at: Index (P,) of the row of each candidate, in [0, N).

    Returns:
        The best rows of both.
    """
    k = best.positions.shape[1]
    possible = (row_at != own[query_at]) & (rows.copies[row_at] <= k)  # k + 1 of equal rows are enough
    query_at, row_at = query_at[possible], row_at[possible]
    every = np.repeat(np.arange(len(queries)), k)
    query_at = np.concatenate([every, query_at])
    similarities = np.concatenate(
        [best.similarities.ravel(), inner_products(queries, rows.embeddings, query_at[len(every) :], row_at)]
    )
    positions = np.concatenate([best.positions.ravel(), row_at + rows.offset])
    order = np.lexsort((positions, -similarities, query_at))
    counts = np.bincount(query_at, minlength=len(queries))
    first = order[
        (np.cumsum(counts) - counts)[:, None] + np.arange(k)
    ]  # each query has at least k rows, the known ones
    return Nearest(similarities[first], positions[first])


def inner_products(queries: np.ndarray, rows: np.ndarray, query_at: np.ndarray, row_at: np.ndarray) -> np.ndarray:
    """Return the inner products (P,) float64 of pairs, each summed in one fixed order.

    Args:
        queries: Queries (B, D) float32.
        rows: Rows (N, D) float32.
        query_at: Indices (P,) of queries.
        row_at: Indices (P,) of rows.
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
    """Return the indices of queries and rows of all pairs that may be among the k best, and of few other pairs."""
    k, num_rows = best.positions.shape[1], len(rows.embeddings)
    norms = np.sqrt(np.einsum("bd,bd->b", queries, queries, dtype=np.float64))
    bound = _rounding_bound(norms * rows.max_norm, queries.shape[1])
    least = best.similarities[:, -1] - bound  # least score that may still be among the k best
    zero = norms == 0
    least[zero] = np.inf  # all rows are equally near to a zero query; the first rows are taken below
    found = []
    for start in range(0, num_rows, _ROW_BLOCK):
        with np.errstate(over="ignore", invalid="ignore"):  # inf and nan of an overflow pass the comparison
            scores = queries @ rows.embeddings[start : start + _ROW_BLOCK].T
        query_at, row_at, score = _passing(scores, k + 1, 2 * bound, least)
        found.append((query_at, row_at + start, score))
    query_at, row_at, score = (np.concatenate(arrays) for arrays in zip(*found))
    possible = ~(score < least[query_at])  # later blocks may have raised least
    first = np.arange(min(k + 1, num_rows))
    zero_queries = np.flatnonzero(zero)
    return (
        np.concatenate([query_at[possible], np.repeat(zero_queries, len(first))]),
        np.concatenate([row_at[possible], np.tile(first, len(zero_queries))]),
    )


def _passing(scores: np.ndarray, count: int, margin: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, ...]:
    """Raise ``least`` (B,) in place to the count-th largest score less the margin, and find the scores above it.

    Scores are compared in groups. If the largest score of a group is too small, all of the group are. A NaN always passes.

    Returns:
        Query indices (P,), row indices (P,) and scores (P,).
    """
    num_queries, num_rows = scores.shape
    width = max(1, min(_GROUP, num_rows // (4 * count)))
    if num_rows % width:
        rest = np.full((num_queries, -num_rows % width), -np.inf, scores.dtype)
        scores = np.concatenate([scores, rest], axis=1)
    grouped = scores.reshape(num_queries, width, -1)  # every G-th row is in a group, so that maxima run along memory
    peaks = grouped.max(axis=1)
    if (groups := peaks.shape[1]) >= count:
        np.maximum(least, np.partition(peaks, groups - count, axis=1)[:, groups - count] - margin, out=least)
    floor = np.nextafter(least.astype(np.float32), np.float32(-np.inf))
    query_at, group = np.nonzero(~(peaks < floor[:, None]))
    inside = grouped[query_at, :, group]  # (P, width)
    pair, member = np.nonzero(~(inside < floor[query_at][:, None]))
    row_at = member * groups + group[pair]
    real = row_at < num_rows  # the padding passes only if all scores do
    return query_at[pair][real], row_at[real], inside[pair, member][real]


def _rounding_bound(norm_products: np.ndarray, dim: int) -> np.ndarray:
    """Return a bound (B,) on the sum of the errors of float32 and float64 inner products."""
    info = np.finfo(np.float32)
    return 1.1 * (dim + 2) * (info.eps / 2) * norm_products + 8 * (dim + 2) * float(info.tiny)
