"""One level is set to the means of what all other levels leave over, in one pass over the catalog.

In: embeddings (D) and codes (L) of all items, perhaps weights, codebooks (L, K, D). Out: codebooks with one level renewed, or
the scalars of an fsq level. Sums are of whole steps of 2**-24, hence exact and the same for any partitions and row order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
_COMBINE_BYTES = 64 << 20  # partial sums above this are added by tasks, in two steps, and the driver sees one row
_SUMS = "sums binary, counts binary"
WHOLE_WEIGHT = "whole_weight"


def with_whole_weights(rows: DataFrame, name: str) -> DataFrame:
    """Adds `WHOLE_WEIGHT`, the weights of a column as whole steps, a bigint, that sum up to 2**36 at most."""
    weights = rows.select(F.col(name).cast("double").alias("weight"))
    steps = sum(int(part.steps) for part in weights.mapInArrow(_sum_weights, "steps string").collect())
    whole = F.ceil(F.col(name).cast("float").cast("double") * 2.0 ** choose_weight_bits(steps))
    return rows.withColumn(WHOLE_WEIGHT, whole)


def update_level(coded: DataFrame, codebooks: np.ndarray, level: int) -> np.ndarray:
    """Renews one codebook with all codes held; the summed squared error, weighted where items are, never rises.

    Args:
        coded: ``embedding`` (D) of about unit norm, ``rq_codes`` (L) and perhaps `WHOLE_WEIGHT`; persisted, as every level
            asks for it.
        codebooks: (L, K, D) float32.
        level: Which one.

    Returns:
        (L, K, D) float32; a centroid without items stays.
    """
    old = levels_of(codebooks)[level]
    worker = partial(_sum_left_over, codebooks=codebooks, level=level, size=len(old))
    sums, counts = _summed(coded, worker, old.size)
    means = np.ldexp(sums.reshape(old.shape) / np.maximum(counts, 1)[:, None], -_BITS)
    renewed = codebooks.copy()
    renewed[level, : len(old)] = np.where(counts[:, None] > 0, means.astype(np.float32), old)
    return renewed


def update_scalars(coded: DataFrame, codebooks: np.ndarray, rounding: ScalarRounding) -> ScalarRounding:
    """Renews the scalars of an fsq level, the last one, with all codes held: it rounds as before, to the means of the rows.

    Args:
        coded: As of `update_level`.
        codebooks: (L, K, D) float32, the last level decoded.
        rounding: Of that level.

    Returns:
        The rounding; a scalar without items stays.
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
        """Returns what ``update_level`` returns."""
        return update_level(self.coded, codebooks, level)

    def scalars(self, codebooks: np.ndarray, rounding: ScalarRounding) -> ScalarRounding:
        """Returns what ``update_scalars`` returns."""
        return update_scalars(self.coded, codebooks, rounding)


def left_over(embeddings: np.ndarray, codes: np.ndarray, codebooks: np.ndarray, level: int) -> np.ndarray:
    """Returns embeddings (B, D) less the centroids of all levels but one, (B, D) float32."""
    for other in range(len(codebooks)):
        if other != level:
            embeddings = embeddings - codebooks[other][codes[:, other]]
    return embeddings


def _summed(coded: DataFrame, worker: Callable, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Adds what a worker yields for each partition: ``size`` sums, and counts."""
    rows = coded.select("embedding", "rq_codes", *([WHOLE_WEIGHT] if WHOLE_WEIGHT in coded.columns else []))
    parts = rows.mapInArrow(worker, _SUMS)
    partitions = rows.rdd.getNumPartitions()
    if partitions * size * 8 > _COMBINE_BYTES:
        some = parts.repartition(math.isqrt(partitions) + 1).mapInArrow(_add, _SUMS)
        parts = some.repartition(1).mapInArrow(_add, _SUMS)
    sums, counts = _total((row.sums, row.counts) for row in parts.collect())
    return sums, counts


def _sum_weights(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    steps = sum(weight_facts(batch.column(0))[2] for batch in batches)
    yield pa.RecordBatch.from_pydict({"steps": [str(steps)]})


def _sum_left_over(
    batches: Iterator[pa.RecordBatch], codebooks: np.ndarray, level: int, size: int
) -> Iterator[pa.RecordBatch]:
    sums, counts = np.zeros((size, codebooks.shape[2]), np.int64), np.zeros(size, np.int64)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        codes, weights = matrix(batch["rq_codes"], np.int32), _weights(batch)
        rest = left_over(matrix(batch["embedding"]), codes, codebooks, level).astype(np.float64)
        steps, own = np.rint(np.ldexp(rest, _BITS)).astype(np.int64), codes[:, level]
        one_hot = csr_array((weights, own, np.arange(len(own) + 1)), shape=(len(own), size))
        sums += one_hot.T @ steps
        np.add.at(counts, own, weights)
    yield _row(sums, counts)


def _sum_scalars(
    batches: Iterator[pa.RecordBatch], codebooks: np.ndarray, rounding: ScalarRounding
) -> Iterator[pa.RecordBatch]:
    starts = np.cumsum([0, *rounding.levels[:-1]])
    sums, counts = (np.zeros(sum(rounding.levels), np.int64) for _ in range(2))
    for batch in batches:
        if batch.num_rows == 0:
            continue
        codes, weights = matrix(batch["rq_codes"], np.int32), _weights(batch)
        rest = left_over(matrix(batch["embedding"]), codes, codebooks, len(codebooks) - 1)
        steps = np.rint(np.ldexp(project(rest, rounding.mean, rounding.projection), _BITS)).astype(np.int64)
        for axis, digits in enumerate(np.unravel_index(codes[:, -1], rounding.levels)):
            np.add.at(sums, starts[axis] + digits, steps[:, axis] * weights)
            np.add.at(counts, starts[axis] + digits, weights)
    yield _row(sums, counts)


def _weights(batch: pa.RecordBatch) -> np.ndarray:
    if batch.num_columns > 2:
        return batch.column(2).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.ones(batch.num_rows, np.int64)


def _add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    total = _total((row["sums"], row["counts"]) for batch in batches for row in batch.to_pylist())
    if total is not None:
        yield _row(*total)


def _total(parts: Iterator[tuple[bytes, bytes]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Adds partial sums and counts, each flat int64, one after the other; None without any."""
    total = None
    for part in parts:
        both = tuple(np.frombuffer(side, np.int64) for side in part)
        total = both if total is None else tuple(a + b for a, b in zip(total, both))
    return total


def _row(sums: np.ndarray, counts: np.ndarray) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"sums": [sums.tobytes()], "counts": [counts.tobytes()]})
