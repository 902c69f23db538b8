"""Squared errors of codes after each level, summed over a catalog in one pass.

In: embeddings (B, D), codes (B, L), codebooks (L, K, D). Out: errors per level, energy and variance, plain and weighted.
Values are rounded to whole steps of 2**-24, so sums are exact and the same for any partitions and row order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from qarm_features.quantizers.arrays.grid import ordered_row_sums

_BITS = 24  # for unit norms, errors stay below 2**26 steps, so int64 can hold the sum of 2**37 rows or interactions


class ErrorSums(NamedTuple):
    """Sums over items, each multiplied by the weight of its item.

    Attributes:
        weight: Sum of the weights, or number of items.
        errors: Sum (L,) of squared errors after each level.
        energy: Sum of squares of the embeddings.
        variance: Sum of squared distances of the embeddings to their mean.
    """

    weight: int
    errors: np.ndarray
    energy: float
    variance: float


def residual_errors(embeddings: np.ndarray, codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Compute the squared error after each level, with the same bits on every CPU.

    Args:
        embeddings: Embeddings (B, D) float32.
        codes: Codes (B, L), integers in [0, K).
        codebooks: Codebooks (L, K, D) float32.

    Returns:
        Squared errors (B, L) float64.

    Example:
        >>> codebooks = np.array([[[0.0], [1.0]], [[0.0], [0.5]]], np.float32)
        >>> residual_errors(np.array([[1.5]], np.float32), np.array([[1, 1]]), codebooks).tolist()
        [[0.25, 0.0]]
    """
    residuals, errors = embeddings, np.empty(codes.shape)
    for level, centroids in enumerate(codebooks):
        residuals = residuals - centroids[codes[:, level]]
        errors[:, level] = ordered_row_sums(np.square(residuals, dtype=np.float64))
    return errors


def matrix(column: pa.Array, dtype: type = np.float32) -> np.ndarray:
    """Return a column of B lists of equal length as an array (B, length).

    Args:
        column: Lists of numbers, without nulls. Without a list the array is (0, 0).
        dtype: Type of the array.
    """
    values = column.flatten().to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return values.reshape(len(column), -1 if len(column) else 0)


class BatchErrors(NamedTuple):
    """The items of a batch with what their codes leave of them.

    Attributes:
        embeddings: Embeddings (B, D) float32.
        codes: Codes (B, L) int32.
        errors: Squared errors (B, L) float64 after each level.
        energy: Squares (B,) float64 of the norms of the embeddings.
    """

    embeddings: np.ndarray
    codes: np.ndarray
    errors: np.ndarray
    energy: np.ndarray


def batch_errors(batch: pa.RecordBatch, codebooks: np.ndarray) -> BatchErrors:
    """Compute the errors of a batch.

    Args:
        batch: Columns ``embedding`` (D) and ``rq_codes`` (L), with at least one row.
        codebooks: Codebooks (L, K, D) float32.
    """
    embeddings, codes = matrix(batch["embedding"]), matrix(batch["rq_codes"], np.int32)
    energy = ordered_row_sums(np.square(embeddings, dtype=np.float64))
    return BatchErrors(embeddings, codes, residual_errors(embeddings, codes, codebooks), energy)


def in_steps(values: np.ndarray) -> np.ndarray:
    """Round values to whole steps of 2**-24, as int64, so that their sums are exact."""
    return np.rint(np.ldexp(values, _BITS)).astype(np.int64)


def sum_errors(rows: DataFrame, codebooks: np.ndarray, *, weight: str | None = None) -> tuple[ErrorSums, ErrorSums]:
    """Sum errors over all rows.

    Args:
        rows: Rows of ``embedding`` (D) of about unit norm, ``rq_codes`` (L), and perhaps integer weights of at least 0.
        codebooks: Codebooks (L, K, D) float32.
        weight: Name of the column of weights; None counts every item once.

    Returns:
        Sums in which every item counts once, and sums in which items count by their weights.
    """
    columns = ["embedding", "rq_codes", *([weight] if weight else [])]
    parts = rows.select(*columns).mapInArrow(partial(_sum_batches, codebooks=codebooks), "sums binary").collect()
    shape = (2, 2 + len(codebooks) + codebooks.shape[2])
    sums = np.zeros(shape, object)  # Python integers, which cannot overflow
    for part in parts:
        sums = sums + np.frombuffer(part.sums, np.int64).reshape(shape)
    plain, weighted = (_error_sums([int(value) for value in row], len(codebooks)) for row in sums)
    return plain, weighted


def _sum_batches(batches: Iterator[pa.RecordBatch], codebooks: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Yield one row for the partition with the sums of weights, L errors, energy and D features, plain and weighted."""
    total = np.zeros((2, 2 + len(codebooks) + codebooks.shape[2]), np.int64)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        found = batch_errors(batch, codebooks)
        steps = in_steps(
            np.concatenate([found.errors, found.energy[:, None], found.embeddings.astype(np.float64)], axis=1)
        )
        weights = (
            batch.column(2).to_numpy().astype(np.int64) if batch.num_columns > 2 else np.ones(len(steps), np.int64)
        )
        for row, factors in enumerate((np.ones_like(weights), weights)):
            total[row, 0] += factors.sum()
            total[row, 1:] += factors @ steps
    yield pa.RecordBatch.from_pydict({"sums": [total.tobytes()]})


def _error_sums(sums: list[int], num_levels: int) -> ErrorSums:
    """Return exact sums, as ``_sum_batches`` orders them, in the unit of the data."""
    weight, errors, energy, features = sums[0], sums[1 : 1 + num_levels], sums[1 + num_levels], sums[2 + num_levels :]
    in_data = [math.ldexp(value, -_BITS) for value in (*errors, energy)]
    squared_mean = math.fsum(math.ldexp(value, -_BITS) ** 2 for value in features) / max(weight, 1)
    return ErrorSums(weight, np.array(in_data[:-1]), in_data[-1], in_data[-1] - squared_mean)
