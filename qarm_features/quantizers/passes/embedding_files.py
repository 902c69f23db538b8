"""The driver's side of the data plane: passes over all rows of a level, one small Spark job each.

In: a column of embeddings (and of weights). Out: sums over all rows.

Each partition is read from the source once and kept as a file on its executor's disk (`local_files`). Spark caches one
small row per partition that says where, so a pass runs where the file lies. When an executor is lost, Spark reads its
partitions from the source again. A task that runs elsewhere finds no file and says so: then a second job reads only
these partitions again, where it runs. Either way the file is made anew, level by level, from the recipe.

Spark sets OMP_NUM_THREADS of a Python worker to spark.task.cpus, so matrix products do not oversubscribe the machine.
"""

from __future__ import annotations

import functools
import logging
import math
import uuid
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from pyspark import Broadcast, StorageLevel
from pyspark.sql import DataFrame

from qarm_features.quantizers.arrays.grid import Grid, choose_grid
from qarm_features.quantizers.passes.file_passes import (
    Level,
    Sample,
    Sums,
    add_outcomes,
    describe_pass,
    draw_pass,
    run_pass,
    sample_pass,
    step_pass,
)
from qarm_features.quantizers.passes.local_files import (
    PARTITION_SCHEMA,
    SKIP,
    Partition,
    Recipe,
    remove_folder,
    write_partition,
    write_rows,
)
from qarm_features.quantizers.passes.parquet_scan import ParquetScan, plain_scan, read_splits
from qarm_features.quantizers.passes.weights import choose_weight_bits

logger = logging.getLogger(__name__)

_COMBINE_BYTES = 256 << 20  # partial sums above this are added by the executors, to spare the driver
_LEAST_PARTITION_BYTES = 4 << 20  # below this a task costs more to schedule, every iteration, than to compute
_MOST_MOVED = 0.9  # share of centroids above which all rows are compared with all
HASH_RANGE = 2**63


class Facts(NamedTuple):
    """What the one pass over the source found, over all partitions."""

    rows: int
    null_rows: int
    bad_rows: int
    zero_rows: int
    bad_weights: int
    weight_steps: int
    min_dim: int | None
    max_dim: int | None
    max_norm: float


class Moments(NamedTuple):
    """Exact sums over all rows of a level."""

    energy: int  # sum of (weighted) squares, in squared grid steps
    weight: int  # sum of weights in their steps, or rows
    variance: float  # mean over the D features, in squared grid units
    counts: np.ndarray  # (K,) rows of each centroid that was subtracted last


class EmbeddingFiles:
    """All rows of a fit, as one file per partition on the executors' disks."""

    def __init__(self, embeddings: DataFrame, *, device: str = "cpu"):
        """Reads a DataFrame of a column of array<float> or array<double> and, if it has two, one of weights.

        Args:
            embeddings: the rows.
            device: Name of the device of the executors' products, see ``task_device``.
        """
        self._device, self._steps = device, 0
        self._context = embeddings.sparkSession.sparkContext
        self._weighted, self._fit_id = len(embeddings.columns) > 1, uuid.uuid4().hex
        self._broadcasts: list[Broadcast] = []
        self._recipe: Recipe | None = None
        self._handles = None
        try:
            source = None if self._weighted else plain_scan(embeddings)
            source = source or embeddings
            self._spool(source)
            few = sum(p.rows for p in self._partitions) * (self.dim or 1) * 4 // _LEAST_PARTITION_BYTES
            few = max(self._context.defaultParallelism, few)
            if len(self._partitions) > 4 * few:
                self._remove_files()
                self._fit_id = uuid.uuid4().hex
                self._spool(source.packed(few) if isinstance(source, ParquetScan) else source.coalesce(few))
        except BaseException:
            self.close()
            raise

    def _spool(self, source: DataFrame | ParquetScan) -> None:
        if isinstance(source, ParquetScan):
            splits = self._context.parallelize(source.partitions, max(1, len(source.partitions)))
            self._source = splits.mapPartitionsWithIndex(
                partial(_write_splits, columns=source.columns, fit_id=self._fit_id)
            )
        else:
            worker = partial(write_rows, fit_id=self._fit_id, weighted=self._weighted)
            self._source = source.mapInArrow(worker, PARTITION_SCHEMA).rdd.mapPartitionsWithIndex(_indexed)
        self._handles = self._source.mapPartitions(_same).persist(StorageLevel.MEMORY_AND_DISK)
        self._partitions = [partition for _, partition in sorted(self._handles.collect())]

    @property
    def dim(self) -> int:
        """Returns D, 0 if there are no rows."""
        return max((p.max_dim for p in self._partitions if p.max_dim is not None), default=0)

    @property
    def grid(self) -> Grid:
        """Returns the grid; `start` has chosen it."""
        return self._recipe.grid

    @property
    def weight_bits(self) -> int | None:
        """Returns the bits of the weights' grid, None without weights."""
        return self._recipe.weight_bits

    def facts(self) -> Facts:
        """Returns what is known of the rows."""
        names = ("rows", "null_rows", "bad_rows", "zero_rows", "bad_weights")
        sums = [sum(getattr(p, name) for p in self._partitions) for name in names]
        steps = sum(int(p.weight_steps) for p in self._partitions)
        dims = [dim for p in self._partitions for dim in (p.min_dim, p.max_dim) if dim is not None]
        norm = max((p.max_norm for p in self._partitions if p.max_norm is not None), default=0.0)
        return Facts(*sums, steps, min(dims, default=None), max(dims, default=None), norm)

    def start(self) -> Moments:
        """Puts all rows, which must have passed validation, on the grid: level 0."""
        facts = self.facts()
        bits = choose_weight_bits(facts.weight_steps) if self._weighted else None
        return self._set_recipe(Recipe(choose_grid(facts.max_norm, facts.rows), bits, (), self._device), 1)

    def subtract(self, centroids: np.ndarray) -> Moments:
        """Goes on to what each row's nearest centroid (K, D) leaves over: the next level."""
        recipe = self._recipe._replace(levels=(*self._recipe.levels, centroids))
        return self._set_recipe(recipe, len(centroids))

    def step(self, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Does one Lloyd step over all rows.

        Args:
            centroids: (K, D), or (K, D + 1) with prices, see `capacity`.

        Returns:
            Sums (K, D) float64 and counts (K,) int64, exact.
        """
        moved = self._moved(centroids) if self._device == "cpu" else None
        work = partial(step_pass, centroids=centroids, bits=self.grid.bits, moved=moved, device=self._device)
        self._steps += 1
        found: Sums = self._run(
            work, step=self._steps, combine=len(self._partitions) * centroids.size * 8 > _COMBINE_BYTES
        )
        if self._weighted:
            return np.ldexp(found.sums.astype(np.float64), -self.grid.bits), found.counts
        return found

    def sample(self, size: int, seed: int) -> Sample:
        """Takes the distinct rows with the smallest hashes: a sample that depends on no partition or order.

        Args:
            size: how many, at least 1; all distinct rows if there are fewer.
            seed: in [0, 2**64).
        """
        share = min(1.0, 2 * size / self.facts().rows)
        while True:
            found: Sample = self._run(partial(sample_pass, size=size, seed=seed, below=int(share * HASH_RANGE)))
            if len(found.hashes) >= size or share == 1.0:
                return Sample(*(part[:size] for part in found))
            share = min(1.0, 8 * share)  # many equal rows

    def draw(self, candidates: np.ndarray, seed: int, odds: float) -> Sample:
        """Draws rows far from candidates (K, D), see `file_passes.draw_pass`."""
        return self._run(partial(draw_pass, candidates=candidates, seed=seed, odds=odds))

    def close(self) -> None:
        """Removes the files and every broadcast."""
        self._remove_files()
        for broadcast in self._broadcasts:
            broadcast.destroy()
        self._broadcasts = []

    def _moved(self, centroids: np.ndarray) -> np.ndarray | None:
        """Returns which centroids (K,) moved since the last step of this level, None where most did or there was none."""
        last, self._last = self._last, centroids
        if last is None or last.shape != centroids.shape:
            return None
        moved = (last != centroids).any(axis=1)
        return moved if moved.mean() < _MOST_MOVED else None

    def _set_recipe(self, recipe: Recipe, num_centroids: int) -> Moments:
        self._recipe, self._last = recipe, None
        self._broadcasts.append(self._context.broadcast(recipe))
        work = partial(describe_pass, bits=recipe.grid.bits, num_centroids=num_centroids)
        found: Level = self._run(work, again=True)
        steps = found.sums if self._weighted else np.ldexp(found.sums, recipe.grid.bits)
        squared_sums = sum(int(value) ** 2 for value in steps)
        variance = (found.weight * found.energy - squared_sums) / (found.weight**2 * self.dim)  # integers: rounded once
        return Moments(found.energy, found.weight, math.ldexp(variance, -2 * recipe.grid.bits), found.counts)

    def _run(self, work: Callable, *, combine: bool = False, again: bool = False, step: int | None = None) -> Any:
        """Runs a pass where the files are, and again from the source for partitions whose file was not there."""
        level = len(self._recipe.levels)
        worker = partial(run_pass, work=work, recipe=self._broadcasts[-1], level=level, again=again, step=step)
        filled = [index for index, partition in enumerate(self._partitions) if partition.rows]
        if combine:
            outcome = self._handles.mapPartitions(worker).treeReduce(add_outcomes)
        else:
            outcome = functools.reduce(add_outcomes, self._context.runJob(self._handles, worker, filled))
        if outcome.missing:
            logger.warning("%d partitions are read again: their executors do not hold them", len(outcome.missing))
            again_read = self._context.runJob(self._source, worker, outcome.missing)
            outcome = functools.reduce(add_outcomes, again_read, outcome._replace(missing=[]))
        self._check_read_again(outcome.digests, filled)
        return outcome.result

    def _check_read_again(self, digests: dict[int, int], filled: list[int]) -> None:
        changed = [index for index in filled if digests.get(index) != self._partitions[index].digest]
        if changed:
            raise RuntimeError(
                f"Rows of {len(changed)} partitions are others than before, must be the same when an executor is lost and "
                "they are read again. Write the DataFrame to a table and fit on that."
            )

    def _remove_files(self) -> None:
        """Removes the files of this fit; reads nothing again for it, and never hides the error that led here."""
        if self._handles is None:
            return
        self._context.setLocalProperty(SKIP, "true")
        try:
            self._context.runJob(self._handles, _remove_folders)
        except Exception as error:  # the folders go with the executors
            logger.debug("files of the fit were left to Spark: %s", error)
        finally:
            self._context.setLocalProperty(SKIP, None)
            self._handles.unpersist()
            self._handles = None


def _indexed(index: int, rows) -> list[tuple[int, Partition]]:
    return [(index, Partition(*row)) for row in rows]


def _write_splits(index: int, parts, columns: list[str], fit_id: str) -> list[tuple[int, Partition]]:
    batches = chain.from_iterable(read_splits(splits, columns) for splits in parts)
    return [(index, write_partition(batches, fit_id, weighted=False))]


def _same(rows):
    return rows


def _remove_folders(rows) -> list[int]:
    for _, partition in rows:
        remove_folder(partition.stem)
    return []
