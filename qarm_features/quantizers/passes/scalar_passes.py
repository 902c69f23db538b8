"""The passes over a DataFrame that `FiniteScalar` needs: facts, exact second moments, histograms.

In: a column of rows, array<float>, and perhaps one of weights. Out: a few numbers; a task yields one row, another task adds
them, the driver sees the sum. Moments are sums of products of integers below 2**53, so that they are the same in any order:
rows are rounded to a grid whose step is the finest with which this holds, 2**-15 of the largest norm for two million rows,
2**-11 where they have weights, of which the mean is then at least 128 steps.
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
from qarm_features.quantizers.passes.embedding_batches import row_norms, to_matrix
from qarm_features.quantizers.passes.weights import choose_weight_bits, on_weight_grid, weight_facts

Batches = Iterator[pa.RecordBatch]
_FACTS = (
    "rows long, null_rows long, bad_rows long, min_dim int, max_dim int, max_norm double, bad_weights long, "
    "weight_steps string"
)
_EXACT_BITS, _MOST_BITS, _WEIGHT_BITS = 53, 18, 8
_EXTREMES = {"min_dim": min, "max_dim": max, "max_norm": max}


class RowFacts(NamedTuple):
    """What one pass over the rows found; weight_steps is the exact sum of their weights, see `weights`, 0 without any."""

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
        """The bits of the weights' grid, None without weights."""
        if not self.weight_steps:
            return None
        return choose_weight_bits(self.weight_steps, total_bits=self.rows.bit_length() + _WEIGHT_BITS)

    @property
    def total_bits(self) -> int:
        """All weights, or rows, are below two to the power of this."""
        return self.rows.bit_length() + (_WEIGHT_BITS + 1 if self.weight_steps else 0)


def describe_rows(rows: DataFrame) -> RowFacts:
    """Counts rows and what is wrong with them, and finds the largest norm; one row per partition reaches the driver."""
    found = rows.mapInArrow(_describe_batches, _FACTS).collect()
    sums = {name: sum(int(part[name]) for part in found) for name in RowFacts._fields if name not in _EXTREMES}
    known = {name: [part[name] for part in found if part[name] is not None] for name in _EXTREMES}
    return RowFacts(**sums, **{name: pick(known[name], default=None) for name, pick in _EXTREMES.items()})


def mean_and_covariance(rows: DataFrame, facts: RowFacts) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean (D,) and the covariance (D, D) float64 of the rows on the grid, the same for any partitioning."""
    bits = min(_MOST_BITS, (_EXACT_BITS - facts.total_bits) // 2)
    exponent = math.frexp(facts.max_norm)[1] if facts.max_norm else 0
    dim = facts.max_dim
    worker = partial(_moment_batches, shift=bits - exponent, dim=dim, weight_bits=facts.weight_bits)
    sums = np.frombuffer(_summed(rows.mapInArrow(worker, "sums binary")))
    weight, total = sums[0], sums[1:].reshape(dim + 1, dim)
    mean = total[0] / weight
    covariance = total[1:] / weight - np.outer(mean, mean)
    return np.ldexp(mean, exponent - bits), np.ldexp(covariance, 2 * (exponent - bits))


def histograms(
    rows: DataFrame, facts: RowFacts, mean: np.ndarray, projection: np.ndarray, deviations: np.ndarray
) -> np.ndarray:
    """Returns the histograms (d, BINS) int64 of the rows, or their weights in steps, in the axes (d, D) of a projection."""
    axes = {"mean": mean, "projection": projection, "deviations": deviations}
    worker = partial(_histogram_batches, **axes, weight_bits=facts.weight_bits)
    counts = np.frombuffer(_summed(rows.mapInArrow(worker, "sums binary")))
    return counts.reshape(len(projection), BINS).astype(np.int64)


def _summed(parts: DataFrame) -> bytes:
    return parts.repartition(1).mapInArrow(_add_batches, "sums binary").first()["sums"]


def _describe_batches(batches: Batches) -> Batches:
    total = dict.fromkeys(RowFacts._fields, 0) | dict.fromkeys(_EXTREMES)
    for batch in batches:
        matrix, facts = to_matrix(batch.column(0))
        norms = np.empty(0) if matrix is None else row_norms(matrix)
        finite = np.isfinite(norms)
        bad_weights, steps = weight_facts(batch.column(1))[1:] if batch.num_columns > 1 else (0, 0)
        added = {"rows": batch.num_rows, "null_rows": facts["null_rows"], "bad_rows": int(np.count_nonzero(~finite))}
        for name, value in (added | {"bad_weights": bad_weights, "weight_steps": steps}).items():
            total[name] += value
        facts["max_norm"] = float(norms[finite].max(initial=0.0))
        for name, pick in _EXTREMES.items():
            total[name] = pick((v for v in (total[name], facts[name]) if v is not None), default=None)
    total["weight_steps"] = str(total["weight_steps"])
    kinds = [*[pa.int64()] * 3, pa.int32(), pa.int32(), pa.float64(), pa.int64(), pa.string()]
    yield pa.RecordBatch.from_arrays([pa.array([v], kind) for v, kind in zip(total.values(), kinds)], list(total))


def _moment_batches(batches: Batches, shift: int, dim: int, weight_bits: int | None) -> Batches:
    """Yields the sums of weights, of weighted rows (D) and of their weighted products (D, D)."""
    weight, total = 0.0, np.zeros((dim + 1, dim))
    for batch in batches:
        if batch.num_rows:
            steps = np.rint(np.ldexp(to_matrix(batch.column(0))[0].astype(np.float64), shift))
            weights = _weights(batch, weight_bits)
            weighted = steps if weights is None else steps * weights[:, None]
            weight += batch.num_rows if weights is None else weights.sum()
            total[0] += weighted.sum(axis=0)
            total[1:] += weighted.T @ steps
    yield _sums_batch(np.concatenate([[weight], total.ravel()]))


def _histogram_batches(
    batches: Batches, mean: np.ndarray, projection: np.ndarray, deviations: np.ndarray, weight_bits: int | None
) -> Batches:
    total = np.zeros((len(projection), BINS))
    for batch in batches:
        if batch.num_rows:
            values = project(to_matrix(batch.column(0))[0], mean, projection)
            total += histogram(values, deviations, _weights(batch, weight_bits))
    yield _sums_batch(total)


def _weights(batch: pa.RecordBatch, bits: int | None) -> np.ndarray | None:
    """Returns the weights (B,) float64 of a batch in whole steps, None without a column of weights."""
    return None if bits is None else on_weight_grid(weight_facts(batch.column(1))[0], bits).astype(np.float64)


def _add_batches(batches: Batches) -> Batches:
    """Adds up what the tasks found."""
    total = None
    for batch in batches:
        for part in batch.column(0):
            values = np.frombuffer(part.as_buffer())
            total = values.copy() if total is None else np.add(total, values, out=total)
    yield _sums_batch(total)


def _sums_batch(total: np.ndarray) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([total.tobytes()], pa.binary())], ["sums"])
