"""One codebook is set to the means of what all other levels leave over, in one pass over the catalog.

In: embeddings (D) and codes (L) of all items, codebooks (L, K, D). Out: codebooks with one level renewed. Sums are of whole
steps of 2**-24, hence exact and the same for any partitions and row order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from scipy.sparse import csr_array

from qarm_features.code_errors import matrix

_BITS = 24
_COMBINE_BYTES = 64 << 20  # partial sums above this are added in two steps, to spare the driver
_SUMS = "sums binary, counts binary"


def update_level(coded: DataFrame, codebooks: np.ndarray, level: int) -> np.ndarray:
    """Renews one codebook with all codes held; the summed squared error never rises.

    Args:
        coded: ``embedding`` (D) of about unit norm, ``rq_codes`` (L); persisted, as every level asks for it.
        codebooks: (L, K, D) float32.
        level: Which one.

    Returns:
        (L, K, D) float32; a centroid without items stays.
    """
    means, counts = left_over_means(coded, codebooks, level)
    renewed = codebooks.copy()
    renewed[level] = np.where(counts[:, None] > 0, means, codebooks[level])
    return renewed


def left_over_means(coded: DataFrame, codebooks: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means (K, D) float32 of what all levels but one leave over of the items of its codes, 0 where a code has
    none, and how many these are (K,); arguments as of `update_level`."""
    rows = coded.select("embedding", "rq_codes")
    parts = rows.mapInArrow(partial(_sum_left_over, codebooks=codebooks, level=level), _SUMS)
    partitions = rows.rdd.getNumPartitions()
    if partitions * codebooks[level].size * 8 > _COMBINE_BYTES:
        parts = parts.repartition(math.isqrt(partitions) + 1).mapInArrow(_add, _SUMS)
    sums, counts = _total([(row.sums, row.counts) for row in parts.collect()])
    means = np.ldexp(sums.reshape(codebooks[level].shape) / np.maximum(counts, 1)[:, None], -_BITS)
    return means.astype(np.float32), counts


def left_over(embeddings: np.ndarray, codes: np.ndarray, codebooks: np.ndarray, level: int) -> np.ndarray:
    """Returns embeddings (B, D) less the centroids of all levels but one, (B, D) float32."""
    for other in range(len(codebooks)):
        if other != level:
            embeddings = embeddings - codebooks[other][codes[:, other]]
    return embeddings


def _sum_left_over(batches: Iterator[pa.RecordBatch], codebooks: np.ndarray, level: int) -> Iterator[pa.RecordBatch]:
    size, dim = codebooks[level].shape
    sums, counts = np.zeros((size, dim), np.int64), np.zeros(size, np.int64)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        codes = matrix(batch["rq_codes"], np.int32)
        rest = left_over(matrix(batch["embedding"]), codes, codebooks, level).astype(np.float64)
        steps, own = np.rint(np.ldexp(rest, _BITS)).astype(np.int64), codes[:, level]
        one_hot = csr_array((np.ones(len(own), np.int64), own, np.arange(len(own) + 1)), shape=(len(own), size))
        sums += one_hot.T @ steps
        counts += np.bincount(own, minlength=size)
    yield _row(sums, counts)


def _add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    parts = [(row["sums"], row["counts"]) for batch in batches for row in batch.to_pylist()]
    if parts:
        yield _row(*_total(parts))


def _total(parts: list[tuple[bytes, bytes]]) -> tuple[np.ndarray, np.ndarray]:
    """Adds partial sums and counts, each flat int64."""
    return tuple(sum(np.frombuffer(part, np.int64) for part in side) for side in zip(*parts))


def _row(sums: np.ndarray, counts: np.ndarray) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"sums": [sums.tobytes()], "counts": [counts.tobytes()]})
