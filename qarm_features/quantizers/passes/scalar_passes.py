"""The passes over a DataFrame that ``FiniteScalar`` needs, for facts, exact second moments and histograms.

In: a column of rows, array<float>, and perhaps one of weights. Out: a few numbers. Each task yields one row, another
task adds these rows, and the driver receives the sum.

Moments are sums of products of integers below 2**53, so they are the same in any order. For this, rows are rounded to the
finest grid that keeps the sums in this range. For two million rows its step is 2**-15 of the largest norm. With weights it is
2**-11, and the mean weight is at least 128 steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from qarm_features.quantizers.arrays.scalar_rounding import BINS, histogram, project
from qarm_features.quantizers.passes.embedding_batches import row_norms, to_matrix, valid_matrix
from qarm_features.quantizers.passes.weights import choose_weight_bits, on_weight_grid, weight_facts

Batches = Iterator[pa.RecordBatch]
_FACTS = (
    "rows long, null_rows long, bad_rows long, min_dim int, max_dim int, max_norm double, bad_weights long, "
    "weight_steps string"
)
_EXACT_BITS, _MOST_BITS, _WEIGHT_BITS = 53, 18, 8
_EXTREMES = ("min_dim", "max_dim", "max_norm")


class RowFacts(NamedTuple):
    """What one pass over the rows found.

    Attributes:
        rows: Number of rows.
        null_rows: Number of rows that are null.
        bad_rows: Number of rows with NaN or infinite values.
        min_dim: Least dimension of a row, None if there is none.
        max_dim: Largest dimension of a row, None if there is none.
        max_norm: Largest Euclidean norm of a row, None if there is none.
        bad_weights: Number of weights that are null, negative or not finite.
        weight_steps: Exact sum of the other weights, in the steps of ``weights.weight_facts``; 0 without weights.
    """

    rows: int
    null_rows: int
    bad_rows: int
    min_dim: int | None
    max_dim: int | None
    max_norm: float | None
    bad_weights: int
    weight_steps: int

    @property
    def weight_bits(self) -> int | None:
        """Bits of the grid of the weights, None without weights."""
        if not self.weight_steps:
            return None
        return choose_weight_bits(self.weight_steps, total_bits=self.rows.bit_length() + _WEIGHT_BITS)

    @property
    def total_bits(self) -> int:
        """Binary logarithm of a bound on the sum of all weights in their steps, or on the number of rows."""
        return self.rows.bit_length() + (_WEIGHT_BITS + 1 if self.weight_steps else 0)


def describe_rows(rows: DataFrame) -> RowFacts:
    """Count rows, and those with faults, and find the largest norm.

    Args:
        rows: Rows, array<float>, and perhaps weights, double.

    Returns:
        The facts, added up by the driver from one row per partition.
    """
    found = rows.mapInArrow(_describe_batches, _FACTS).collect()
    sums = {name: sum(int(part[name]) for part in found) for name in RowFacts._fields if name not in _EXTREMES}
    known = {name: [part[name] for part in found if part[name] is not None] for name in _EXTREMES}
    return RowFacts(
        **sums,
        min_dim=min(known["min_dim"], default=None),
        max_dim=max(known["max_dim"], default=None),
        max_norm=max(known["max_norm"], default=None),
    )


def mean_and_covariance(rows: DataFrame, facts: RowFacts) -> tuple[np.ndarray, np.ndarray]:
    """Compute exact moments, which are the same for any partitioning.

    Args:
        rows: Rows, array<float>, and perhaps weights, double.
        facts: Facts of these rows, which must have passed validation.

    Returns:
        Mean (D,) and covariance (D, D) float64 of the rows on the grid.
    """
    bits = min(_MOST_BITS, (_EXACT_BITS - facts.total_bits) // 2)
    exponent = math.frexp(facts.max_norm)[1] if facts.max_norm else 0
    dim = facts.max_dim or 0
    worker = partial(_moment_batches, shift=bits - exponent, dim=dim, weight_bits=facts.weight_bits)
    sums = np.frombuffer(_summed(rows.mapInArrow(worker, "sums binary")))
    weight, total = sums[0], sums[1:].reshape(dim + 1, dim)
    mean = total[0] / weight
    covariance = total[1:] / weight - np.outer(mean, mean)
    return np.ldexp(mean, exponent - bits), np.ldexp(covariance, 2 * (exponent - bits))


def histograms(
    rows: DataFrame, facts: RowFacts, mean: np.ndarray, projection: np.ndarray, deviations: np.ndarray
) -> np.ndarray:
    """Count the projected rows by bins.

    Args:
        rows: Rows, array<float>, and perhaps weights, double.
        facts: Facts of these rows, which must have passed validation.
        mean: Mean (D,) of the rows.
        projection: Axes (d, D).
        deviations: Standard deviation (d,) along each axis.

    Returns:
        Number of rows, or sum of their weights in steps, of each bin, (d, BINS) int64.
    """
    worker = partial(
        _histogram_batches, mean=mean, projection=projection, deviations=deviations, weight_bits=facts.weight_bits
    )
    counts = np.frombuffer(_summed(rows.mapInArrow(worker, "sums binary")))
    return counts.reshape(len(projection), BINS).astype(np.int64)


def _summed(parts: DataFrame) -> bytes:
    """Return the sum of the arrays that the tasks yielded, added by one task."""
    (total,) = parts.repartition(1).mapInArrow(_add_batches, "sums binary").collect()
    return bytes(total["sums"])


def _describe_batches(batches: Batches) -> Batches:
    """Yield one row of facts for the partition."""
    rows = null_rows = bad_rows = bad_weights = weight_steps = 0
    dims: list[int] = []
    norms_found: list[float] = []
    for batch in batches:
        matrix, facts = to_matrix(batch.column(0))
        norms = np.empty(0) if matrix is None else row_norms(matrix)
        finite = np.isfinite(norms)
        rows, null_rows = rows + batch.num_rows, null_rows + facts.null_rows
        bad_rows += int(np.count_nonzero(~finite))
        if batch.num_columns > 1:
            _, bad, steps = weight_facts(batch.column(1))
            bad_weights, weight_steps = bad_weights + bad, weight_steps + steps
        dims += [dim for dim in (facts.min_dim, facts.max_dim) if dim is not None]
        norms_found.append(float(norms[finite].max(initial=0.0)))
    found = {
        "rows": pa.array([rows], pa.int64()),
        "null_rows": pa.array([null_rows], pa.int64()),
        "bad_rows": pa.array([bad_rows], pa.int64()),
        "min_dim": pa.array([min(dims, default=None)], pa.int32()),
        "max_dim": pa.array([max(dims, default=None)], pa.int32()),
        "max_norm": pa.array([max(norms_found, default=None)], pa.float64()),
        "bad_weights": pa.array([bad_weights], pa.int64()),
        "weight_steps": pa.array([str(weight_steps)], pa.string()),
    }
    yield pa.RecordBatch.from_arrays(list(found.values()), list(found))


def _moment_batches(batches: Batches, shift: int, dim: int, weight_bits: int | None) -> Batches:
    """Yield the sum of weights, the weighted sum of rows (D,) and that of their products (D, D), in one flat array."""
    weight, total = 0.0, np.zeros((dim + 1, dim))
    for batch in batches:
        if batch.num_rows:
            steps = np.rint(np.ldexp(valid_matrix(batch.column(0)).astype(np.float64), shift))
            weights = _weights(batch, weight_bits)
            weighted = steps if weights is None else steps * weights[:, None]
            weight += batch.num_rows if weights is None else weights.sum()
            total[0] += weighted.sum(axis=0)
            total[1:] += weighted.T @ steps
    yield _sums_batch(np.concatenate([[weight], total.ravel()]))


def _histogram_batches(
    batches: Batches, mean: np.ndarray, projection: np.ndarray, deviations: np.ndarray, weight_bits: int | None
) -> Batches:
    """Yield the histograms (d, BINS) of the partition."""
    total = np.zeros((len(projection), BINS))
    for batch in batches:
        if batch.num_rows:
            values = project(valid_matrix(batch.column(0)), mean, projection)
            total += histogram(values, deviations, _weights(batch, weight_bits))
    yield _sums_batch(total)


def _weights(batch: pa.RecordBatch, bits: int | None) -> np.ndarray | None:
    """Return the weights (B,) float64 of a batch in whole steps, or None without a column of weights."""
    return None if bits is None else on_weight_grid(weight_facts(batch.column(1))[0], bits).astype(np.float64)


def _add_batches(batches: Batches) -> Batches:
    """Add up the arrays that the tasks yielded, of which there is at least one."""
    total: np.ndarray | None = None
    for batch in batches:
        for part in batch.column(0):
            values = np.frombuffer(part.as_buffer())
            total = values.copy() if total is None else np.add(total, values, out=total)
    if total is not None:
        yield _sums_batch(total)


def _sums_batch(total: np.ndarray) -> pa.RecordBatch:
    """Return a batch of one row that holds an array."""
    return pa.RecordBatch.from_arrays([pa.array([total.tobytes()], pa.binary())], ["sums"])
