"""The data plane of `ResidualKMeans`: residuals as a persisted DataFrame of blocks, one Spark job per Lloyd step.

In: a column of embeddings. Out: ``block`` binary, some rows of float32 side by side, which Spark moves as plain bytes
(a column of float arrays is copied value by value), and per partition one row of partial sums.

Spark sets OMP_NUM_THREADS of a Python worker to spark.task.cpus, so matrix products do not oversubscribe the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.quantizers.block_passes import (
    add_partial_sums,
    describe_blocks,
    pack_rows,
    round_blocks,
    sample_rows,
    step_over_blocks,
    subtract_centroids,
)
from qarm_features.quantizers.grid import Grid, choose_grid

_FACTS = "rows long, null_rows long, bad_rows long, min_dim int, max_dim int, max_norm double"
_BLOCKS = "block binary, codes binary"
_PARTIAL_SUMS = "sums binary, counts binary, sse double"
_COMBINE_BYTES = 64 << 20  # partial sums above this are added in two steps, to spare the driver
_LEAST_TASK_BYTES = 4 << 20  # below this a task costs more to schedule, every iteration, than to compute
HASH_RANGE = 2**63


class Rows(NamedTuple):
    """What one pass over the embeddings found."""

    rows: int
    null_rows: int
    bad_rows: int
    min_dim: int | None
    max_dim: int | None
    max_norm: float | None


class Moments(NamedTuple):
    """Exact sums over all residuals of a level."""

    rows: int
    energy: int  # sum of squares, in squared grid steps
    variance: float  # mean over the D features, in squared grid units
    counts: np.ndarray  # (K,) rows of each centroid that was subtracted last


class PackedRows:
    """Embeddings as blocks, read from the source once, and the facts that validation needs."""

    def __init__(self, embeddings: DataFrame):
        """Packs a one-column DataFrame of array<float> or array<double>."""
        self._packed = embeddings.mapInArrow(pack_rows, f"block binary, {_FACTS}").persist()
        sums = [F.sum(F.col(name)).alias(name) for name in ("rows", "null_rows", "bad_rows")]
        bounds = [F.min(F.col("min_dim")), F.max(F.col("max_dim")), F.max(F.col("max_norm"))]
        facts = self._packed.agg(*sums, *bounds).first()
        self.facts = Rows(*(value or 0 for value in facts[:3]), *facts[3:])

    def to_grid(self) -> tuple[EmbeddingBlocks, Moments]:
        """Rounds the embeddings, which must have passed validation, to the grid, and frees the packed ones."""
        grid = choose_grid(self.facts.max_norm, self.facts.rows)
        blocks = self._packed.where(F.col("block").isNotNull()).select("block")
        tasks = self.facts.rows * self.facts.max_dim * 4 // _LEAST_TASK_BYTES
        rounded = blocks.coalesce(max(1, tasks)).mapInArrow(partial(round_blocks, grid=grid), _BLOCKS)
        on_grid = EmbeddingBlocks(rounded, self.facts, grid, 1).persist()
        moments = on_grid.describe()
        self.unpersist()
        return on_grid, moments

    def unpersist(self) -> None:
        """Frees the blocks."""
        self._packed.unpersist()


class EmbeddingBlocks:
    """The residuals of one level, on the grid."""

    def __init__(self, blocks: DataFrame, facts: Rows, grid: Grid, num_centroids: int, broadcasts: tuple = ()):
        self.grid, self.dim = grid, facts.max_dim
        self._facts, self._num_centroids = facts, num_centroids
        self._blocks, self._partitions = blocks, 1
        self._broadcasts: tuple[Broadcast, ...] = broadcasts

    def persist(self) -> EmbeddingBlocks:
        """Keeps the blocks in memory, or on disk where memory is short, once they are made."""
        self._blocks.persist()  # MEMORY_AND_DISK
        return self

    def describe(self) -> Moments:
        """Adds up squares, features and codes, exactly."""
        dim, bits = self.dim, self.grid.bits
        worker = partial(describe_blocks, dim=dim, bits=bits, num_centroids=self._num_centroids)
        parts = self._blocks.mapInArrow(worker, "energy string, sums binary, counts binary").collect()
        self._partitions = len(parts)
        energy = sum(int(part.energy) for part in parts)
        sums = sum(np.frombuffer(part.sums) for part in parts)
        counts = sum(np.frombuffer(part.counts, np.int64) for part in parts)
        rows = self._facts.rows
        squared_sums = sum(int(value) ** 2 for value in np.ldexp(sums, bits))
        variance = (rows * energy - squared_sums) / (rows**2 * dim)  # integers, so rounded once
        return Moments(rows, energy, math.ldexp(variance, -2 * bits), counts)

    def step(self, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Does one Lloyd step over all rows; arguments and results as of `lloyd.lloyd_step`."""
        broadcast = self._broadcast(centroids)
        partial_sums = self._map(step_over_blocks, broadcast, _PARTIAL_SUMS)
        if self._partitions * centroids.size * 8 > _COMBINE_BYTES:
            groups = math.isqrt(self._partitions) + 1
            partial_sums = partial_sums.repartition(groups).mapInArrow(add_partial_sums, _PARTIAL_SUMS)
        parts = partial_sums.collect()
        broadcast.destroy()
        sums = sum(np.frombuffer(part.sums) for part in parts).reshape(centroids.shape)
        counts = sum(np.frombuffer(part.counts, np.int64) for part in parts)
        return sums, counts, math.fsum(part.sse for part in parts)

    def subtract(self, centroids: np.ndarray) -> EmbeddingBlocks:
        """Returns what each row's nearest centroid leaves over: the next level's residuals."""
        broadcast = self._broadcast(centroids)
        residuals = self._map(subtract_centroids, broadcast, _BLOCKS)
        # The broadcasts live on with the residuals: Spark recomputes a lost partition from the source on.
        broadcasts = (*self._broadcasts, broadcast)
        return EmbeddingBlocks(residuals, self._facts, self.grid, len(centroids), broadcasts)

    def sample(self, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Takes the distinct rows with the smallest hashes: a sample that depends on no partition or order.

        Args:
            size: how many, at least 1; all distinct rows if there are fewer.
            seed: in [0, 2**64).

        Returns:
            embeddings (B, D) float32, ordered by hash, and how many rows are equal to each (B,) int64.
        """
        share = min(1.0, 2 * size / self._facts.rows)
        while True:
            worker = partial(sample_rows, dim=self.dim, seed=seed, below=int(share * HASH_RANGE))
            rows = self._blocks.select("block").mapInArrow(worker, "hash long, embedding binary")
            equal_rows = rows.groupBy("hash", "embedding").agg(F.count(F.lit(1)).alias("rows"))
            sample = equal_rows.orderBy("hash", "embedding").limit(size).toArrow()
            if len(sample) == size or share == 1.0:
                break
            share = min(1.0, 8 * share)  # many equal rows
        embeddings = np.frombuffer(b"".join(sample["embedding"].to_pylist()), np.float32)
        return embeddings.reshape(len(sample), self.dim), sample["rows"].to_numpy()

    def unpersist(self) -> None:
        """Frees the blocks, not the broadcasts that the next level's residuals may need."""
        self._blocks.unpersist()

    def close(self) -> None:
        """Frees the blocks and every broadcast they were made with."""
        self._blocks.unpersist()
        for broadcast in self._broadcasts:
            broadcast.destroy()

    def _broadcast(self, centroids: np.ndarray) -> Broadcast:
        return self._blocks.sparkSession.sparkContext.broadcast(centroids)

    def _map(self, worker: Callable[..., Iterator[pa.RecordBatch]], broadcast: Broadcast, schema: str) -> DataFrame:
        return self._blocks.select("block").mapInArrow(partial(worker, centroids=broadcast), schema)
