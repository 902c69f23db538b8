"""The passes over a DataFrame that `FiniteScalar` needs: facts, exact second moments, histograms.

In: a column of rows, array<float>. Out: a few numbers; a task yields one row, another task adds them, the driver sees the
sum. Moments are sums of products of integers below 2**53, so that they are the same in any order: rows are rounded to a grid
whose step is the finest with which this holds, 2**-15 of the largest norm for two million rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.quantizers.embedding_batches import row_norms, to_matrix
from qarm_features.quantizers.scalar_rounding import BINS, histogram, project

Batches = Iterator[pa.RecordBatch]
_FACTS = "rows long, null_rows long, bad_rows long, min_dim int, max_dim int, max_norm double"
_EXACT_BITS, _MOST_BITS = 53, 18


class RowFacts(NamedTuple):
    """What one pass over the rows found."""

    rows: int
    null_rows: int
    bad_rows: int
    min_dim: int | None
    max_dim: int | None
    max_norm: float | None


def describe_rows(rows: DataFrame) -> RowFacts:
    """Counts rows and what is wrong with them, and finds the largest norm."""
    facts = rows.mapInArrow(_describe_batches, _FACTS)
    sums = [F.sum(name) for name in ("rows", "null_rows", "bad_rows")]
    found = facts.agg(*sums, F.min("min_dim"), F.max("max_dim"), F.max("max_norm")).first()
    return RowFacts(*(value or 0 for value in found[:3]), *found[3:])


def mean_and_covariance(rows: DataFrame, facts: RowFacts) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean (D,) and the covariance (D, D) float64 of the rows on the grid, the same for any partitioning."""
    bits = min(_MOST_BITS, (_EXACT_BITS - facts.rows.bit_length()) // 2)
    exponent = math.frexp(facts.max_norm)[1] if facts.max_norm else 0
    dim = facts.max_dim
    sums = _summed(rows.mapInArrow(partial(_moment_batches, shift=bits - exponent, dim=dim), "sums binary"))
    total = np.frombuffer(sums).reshape(dim + 1, dim)
    mean = total[0] / facts.rows
    covariance = total[1:] / facts.rows - np.outer(mean, mean)
    return np.ldexp(mean, exponent - bits), np.ldexp(covariance, 2 * (exponent - bits))


def histograms(rows: DataFrame, mean: np.ndarray, projection: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Returns the histograms (d, BINS) int64 of the rows in the dimensions of a projection (d, D)."""
    worker = partial(_histogram_batches, mean=mean, projection=projection, deviations=deviations)
    counts = np.frombuffer(_summed(rows.mapInArrow(worker, "sums binary")))
    return counts.reshape(len(projection), BINS).astype(np.int64)


def _summed(parts: DataFrame) -> bytes:
    return parts.repartition(1).mapInArrow(_add_batches, "sums binary").first()["sums"]


def _describe_batches(batches: Batches) -> Batches:
    types = [*[pa.int64()] * 3, pa.int32(), pa.int32(), pa.float64()]
    for batch in batches:
        matrix, facts = to_matrix(batch.column(0))
        norms = np.empty(0) if matrix is None else row_norms(matrix)
        finite = np.isfinite(norms)
        values = (
            batch.num_rows,
            facts["null_rows"],
            int(np.count_nonzero(~finite)),
            facts["min_dim"],
            facts["max_dim"],
        )
        values = (*values, float(norms[finite].max(initial=0.0)))
        columns = [pa.array([value], kind) for value, kind in zip(values, types)]
        yield pa.RecordBatch.from_arrays(columns, list(RowFacts._fields))


def _moment_batches(batches: Batches, shift: int, dim: int) -> Batches:
    total = np.zeros((dim + 1, dim))
    for batch in batches:
        if batch.num_rows:
            steps = np.rint(np.ldexp(to_matrix(batch.column(0))[0].astype(np.float64), shift))
            total[0] += steps.sum(axis=0)
            total[1:] += steps.T @ steps
    yield _sums_batch(total)


def _histogram_batches(batches: Batches, mean: np.ndarray, projection: np.ndarray, deviations: np.ndarray) -> Batches:
    total = np.zeros((len(projection), BINS))
    for batch in batches:
        if batch.num_rows:
            total += histogram(project(to_matrix(batch.column(0))[0], mean, projection), deviations)
    yield _sums_batch(total)


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
