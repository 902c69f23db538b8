"""Updates of one level with all codes held, each in one pass over the catalog.

In: embeddings (D) and codes (L) of all items, perhaps weights, and codebooks (L, K, D). Out: codebooks with one new level, or
new scalars of an fsq level. The new values are means of residuals, which are embeddings less the centroids of all other
levels. Residuals are rounded to whole steps of 2**-24, so sums are exact and the same for any partitions and row order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_array

from qarm_features.codebooks.errors import matrix
from qarm_features.quantizers.arrays.codebooks import levels_of
from qarm_features.quantizers.arrays.scalar_rounding import ScalarRounding, project
from qarm_features.quantizers.passes.weights import choose_weight_bits, weight_facts

_BITS = 24
_COMBINE_BYTES = 64 << 20  # tasks add partial sums above this size in two steps, so that the driver receives one row
_SUMS = "sums binary, counts binary"
WHOLE_WEIGHT = "whole_weight"


def with_whole_weights(rows: DataFrame, name: str) -> DataFrame:
    """Add ``WHOLE_WEIGHT``, the weights as whole steps with a sum of at most 2**36.

    Args:
        rows: Rows with a column of weights of at least 0.
        name: Name of that column.

    Returns:
        The rows with ``WHOLE_WEIGHT``, bigint.
    """
    weights = rows.select(F.col(name).cast("double").alias("weight"))
    steps = sum(int(part.steps) for part in weights.mapInArrow(_sum_weights, "steps string").collect())
    whole = F.ceil(F.col(name).cast("float").cast("double") * 2.0 ** choose_weight_bits(steps))
    return rows.withColumn(WHOLE_WEIGHT, whole)


def update_level(coded: DataFrame, codebooks: np.ndarray, level: int) -> np.ndarray:
    """Move the centroids of one level to the means of the residuals; the (weighted) squared error never rises.

    Args:
        coded: Rows of ``embedding`` (D) of about unit norm, ``rq_codes`` (L) and perhaps ``WHOLE_WEIGHT``. They should be
            persisted, because the update of every level reads them.
        codebooks: Codebooks (L, K, D) float32.
        level: Index of the level, from 0.

    Returns:
        Codebooks (L, K, D) float32; a centroid without items stays.
    """
    old = levels_of(codebooks)[level]
    worker = partial(_sum_residuals, codebooks=codebooks, level=level, size=len(old))
    sums, counts = _summed(coded, worker, old.size)
    means = np.ldexp(sums.reshape(old.shape) / np.maximum(counts, 1)[:, None], -_BITS)
    renewed = codebooks.copy()
    renewed[level, : len(old)] = np.where(counts[:, None] > 0, means.astype(np.float32), old)
    return renewed


def update_scalars(coded: DataFrame, codebooks: np.ndarray, rounding: ScalarRounding) -> ScalarRounding:
    """Move the scalars of an fsq level to the means of the projected residuals; axes and boundaries stay.

    Args:
        coded: Rows as ``update_level`` takes them.
        codebooks: Codebooks (L, K, D) float32, where the last level holds what its codes decode to.
        rounding: Rounding of the last level.

    Returns:
        The rounding with new scalars; a scalar without items stays.
    """
    ends = np.cumsum(rounding.levels)[:-1]
    sums, counts = _summed(coded, partial(_sum_scalars, codebooks=codebooks, rounding=rounding), sum(rounding.levels))
    means = np.split(np.ldexp(sums / np.maximum(counts, 1), -_BITS), ends)
    scalars = [
        np.where(rows > 0, mean, old) for rows, mean, old in zip(np.split(counts, ends), means, rounding.scalars)
    ]
    return rounding._replace(scalars=scalars)


class JointUpdates(NamedTuple):
    """The updates of one set of codes, from which an ``RQModel`` chooses for each level.

    Attributes:
        coded: Rows as ``update_level`` takes them.
    """

    coded: DataFrame

    def centroids(self, codebooks: np.ndarray, level: int) -> np.ndarray:
        """Return what ``update_level`` returns."""
        return update_level(self.coded, codebooks, level)

    def scalars(self, codebooks: np.ndarray, rounding: ScalarRounding) -> ScalarRounding:
        """Return what ``update_scalars`` returns."""
        return update_scalars(self.coded, codebooks, rounding)


def residuals_without(embeddings: np.ndarray, codes: np.ndarray, codebooks: np.ndarray, level: int) -> np.ndarray:
    """Compute the residuals of all levels but one.

    Args:
        embeddings: Embeddings (B, D) float32.
        codes: Codes (B, L) int32.
        codebooks: Codebooks (L, K, D) float32.
        level: Index of the level whose centroids are not subtracted.

    Returns:
        Residuals (B, D) float32.
    """
    for other in range(len(codebooks)):
        if other != level:
            embeddings = embeddings - codebooks[other][codes[:, other]]
    return embeddings


def _summed(coded: DataFrame, worker: Callable, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sums (size,) and counts of all partitions, as a worker yields them for each, both int64."""
    rows = coded.select("embedding", "rq_codes", *([WHOLE_WEIGHT] if WHOLE_WEIGHT in coded.columns else []))
    parts = rows.mapInArrow(worker, _SUMS)
    partitions = rows.rdd.getNumPartitions()
    if partitions * size * 8 > _COMBINE_BYTES:
        some = parts.repartition(math.isqrt(partitions) + 1).mapInArrow(_add, _SUMS)
        parts = some.repartition(1).mapInArrow(_add, _SUMS)
    total = _total((row.sums, row.counts) for row in parts.collect())
    assert total is not None, "a worker yields one row for every partition"
    return total


def _sum_weights(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the exact sum of the weights of the partition as text."""
    steps = sum(weight_facts(batch.column(0))[2] for batch in batches)
    yield pa.RecordBatch.from_pydict({"steps": [str(steps)]})


def _sum_residuals(
    batches: Iterator[pa.RecordBatch], codebooks: np.ndarray, level: int, size: int
) -> Iterator[pa.RecordBatch]:
    """Yield the sums (size, D) of residuals by code, and the counts (size,), for the partition."""
    sums, counts = np.zeros((size, codebooks.shape[2]), np.int64), np.zeros(size, np.int64)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        codes, weights = matrix(batch["rq_codes"], np.int32), _weights(batch)
        rest = residuals_without(matrix(batch["embedding"]), codes, codebooks, level).astype(np.float64)
        steps, own = np.rint(np.ldexp(rest, _BITS)).astype(np.int64), codes[:, level]
        one_hot = csr_array((weights, own, np.arange(len(own) + 1)), shape=(len(own), size))
        sums += one_hot.T @ steps
        np.add.at(counts, own, weights)
    yield _row(sums, counts)


def _sum_scalars(
    batches: Iterator[pa.RecordBatch], codebooks: np.ndarray, rounding: ScalarRounding
) -> Iterator[pa.RecordBatch]:
    """Yield the sums of projected residuals by scalar, those of all axes in one array, and the counts."""
    starts = np.cumsum([0, *rounding.levels[:-1]])
    sums, counts = (np.zeros(sum(rounding.levels), np.int64) for _ in range(2))
    for batch in batches:
        if batch.num_rows == 0:
            continue
        codes, weights = matrix(batch["rq_codes"], np.int32), _weights(batch)
        rest = residuals_without(matrix(batch["embedding"]), codes, codebooks, len(codebooks) - 1)
        steps = np.rint(np.ldexp(project(rest, rounding.mean, rounding.projection), _BITS)).astype(np.int64)
        for axis, digits in enumerate(np.unravel_index(codes[:, -1], rounding.levels)):
            np.add.at(sums, starts[axis] + digits, steps[:, axis] * weights)
            np.add.at(counts, starts[axis] + digits, weights)
    yield _row(sums, counts)


def _weights(batch: pa.RecordBatch) -> np.ndarray:
    """Return the weights (B,) int64 of a batch, 1 without a column of weights."""
    if batch.num_columns > 2:
        return batch.column(2).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.ones(batch.num_rows, np.int64)


def _add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the sum of the rows of the partition, unless it has none."""
    total = _total((row["sums"], row["counts"]) for batch in batches for row in batch.to_pylist())
    if total is not None:
        yield _row(*total)


def _total(parts: Iterable[tuple[bytes, bytes]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Add partial sums and counts, each a flat array of int64; the sum of none is None."""
    total: tuple[np.ndarray, np.ndarray] | None = None
    for part in parts:
        sums, counts = (np.frombuffer(buffer, np.int64) for buffer in part)
        total = (sums, counts) if total is None else (total[0] + sums, total[1] + counts)
    return total


def _row(sums: np.ndarray, counts: np.ndarray) -> pa.RecordBatch:
    """Return a batch of one row of sums and counts."""
    return pa.RecordBatch.from_pydict({"sums": [sums.tobytes()], "counts": [counts.tobytes()]})
