"""Passes over all rows of a level as the driver runs them, one small Spark job each.

In: a column of embeddings, and perhaps one of weights. Out: sums over all rows.

Each partition is read from the source once and stored as a file on the disk of its executor (``local_files``). Spark
caches one small row per partition with the path of that file, so a pass runs where the file lies. If an executor is
lost, Spark reads its partitions from the source again. A task on another executor reports that it has no file. Then a
second job reads only these partitions again, on the executors where it runs. In both cases the file is computed again
from the recipe, level by level.

Spark sets OMP_NUM_THREADS of a Python worker to spark.task.cpus, so matrix products use no more CPU cores than the task has.
"""

from __future__ import annotations

import functools
import logging
import math
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from pyspark import RDD, Broadcast, StorageLevel
from pyspark.sql import DataFrame, Row

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
from qarm_features.quantizers.passes.parquet_scan import ParquetScan, Split, plain_scan, read_splits
from qarm_features.quantizers.passes.sum_trees import COMBINE_BYTES, floors_for
from qarm_features.quantizers.passes.weights import choose_weight_bits

logger = logging.getLogger(__name__)

_LEAST_PARTITION_BYTES = 4 << 20  # scheduling a smaller task, in every iteration, takes longer than its work
_MOST_MOVED = 0.9  # share of moved centroids above which all rows are compared with all centroids
HASH_RANGE = 2**63
Handle = tuple[int, Partition]  # number and facts of a partition


class Facts(NamedTuple):
    """What the one pass over the source found, over all partitions.

    Attributes:
        rows: Number of rows.
        null_rows: Number of rows that are null.
        bad_rows: Number of rows with NaN or infinite values.
        zero_rows: Number of rows of norm 0.
        bad_weights: Number of weights that are null, negative or not finite.
        weight_steps: Exact sum of the other weights, in the steps of ``weights.weight_facts``.
        min_dim: Least dimension of a row, None if there is no row.
        max_dim: Largest dimension of a row, None if there is no row.
        max_norm: Largest Euclidean norm of a row, at least 0.
    """

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
    """Exact sums over all rows of a level.

    Attributes:
        energy: Sum of squares, weighted if rows have weights, in squared grid steps.
        weight: Sum of the weights in their steps, or the number of rows.
        variance: Mean variance of the D features, in squared grid units.
        counts: Number of rows (K,) of each centroid that was subtracted last.
    """

    energy: int
    weight: int
    variance: float
    counts: np.ndarray


class EmbeddingFiles:
    """All rows of a fit, stored as one file per partition on the disks of the executors."""

    def __init__(self, embeddings: DataFrame, *, device: str = "cpu") -> None:
        """Read all rows and store them.

        Args:
            embeddings: A column of array<float> or array<double> and, if there is a second column, their weights.
            device: Name of the device of the executors' products, see ``task_device``.
        """
        self._device, self._steps = device, 0
        self.context = embeddings.sparkSession.sparkContext
        self._weighted, self._fit_id = len(embeddings.columns) > 1, uuid.uuid4().hex
        self._broadcasts: list[Broadcast] = []
        self._recipe: Recipe | None = None
        self._handles: RDD[Handle] | None = None
        self._last: np.ndarray | None = None
        try:
            scan = None if self._weighted else plain_scan(embeddings)
            source: DataFrame | ParquetScan = scan or embeddings
            self._spool(source)
            few = sum(p.rows for p in self._partitions) * (self.dim or 1) * 4 // _LEAST_PARTITION_BYTES
            few = max(self.context.defaultParallelism, few)
            if len(self._partitions) > 4 * few:
                self._remove_files()
                self._fit_id = uuid.uuid4().hex
                self._spool(source.packed(few) if isinstance(source, ParquetScan) else source.coalesce(few))
        except BaseException:
            self.close()
            raise

    def _spool(self, source: DataFrame | ParquetScan) -> None:
        """Store the rows of a source, in as many files as it has partitions."""
        if isinstance(source, ParquetScan):
            splits = self.context.parallelize(source.partitions, max(1, len(source.partitions)))
            self._source: RDD[Handle] = splits.mapPartitionsWithIndex(
                partial(_write_splits, columns=source.columns, fit_id=self._fit_id)
            )
        else:
            worker = partial(write_rows, fit_id=self._fit_id, weighted=self._weighted)
            self._source = source.mapInArrow(worker, PARTITION_SCHEMA).rdd.mapPartitionsWithIndex(_indexed)
        self._handles = self._source.mapPartitions(_same).persist(StorageLevel.MEMORY_AND_DISK)
        self._partitions = [partition for _, partition in sorted(self._handles.collect())]

    @property
    def dim(self) -> int:
        """Dimension D of the rows, 0 if there are none."""
        return max((p.max_dim for p in self._partitions if p.max_dim is not None), default=0)

    @property
    def grid(self) -> Grid:
        """Grid of the rows, which ``start`` chooses."""
        return self._started().grid

    @property
    def weight_bits(self) -> int | None:
        """Bits of the grid of the weights, None without weights."""
        return self._started().weight_bits

    def _started(self) -> Recipe:
        """Return the recipe of the current level."""
        assert self._recipe is not None, "start puts the rows on a grid"
        return self._recipe

    def facts(self) -> Facts:
        """Return what the one pass over the source found."""
        dims = [dim for p in self._partitions for dim in (p.min_dim, p.max_dim) if dim is not None]
        return Facts(
            rows=sum(p.rows for p in self._partitions),
            null_rows=sum(p.null_rows for p in self._partitions),
            bad_rows=sum(p.bad_rows for p in self._partitions),
            zero_rows=sum(p.zero_rows for p in self._partitions),
            bad_weights=sum(p.bad_weights for p in self._partitions),
            weight_steps=sum(int(p.weight_steps) for p in self._partitions),
            min_dim=min(dims, default=None),
            max_dim=max(dims, default=None),
            max_norm=max((p.max_norm for p in self._partitions if p.max_norm is not None), default=0.0),
        )

    def start(self) -> Moments:
        """Put all rows, which must have passed validation, on the grid as level 0, and return their moments."""
        facts = self.facts()
        bits = choose_weight_bits(facts.weight_steps) if self._weighted else None
        return self._set_recipe(Recipe(choose_grid(facts.max_norm, facts.rows), bits, (), self._device), 1)

    def subtract(self, centroids: np.ndarray) -> Moments:
        """Go on to the next level, whose rows are the residuals of this one, and return their moments.

        Args:
            centroids: Centroids (K, D) float32 on the grid, of which the nearest is subtracted from each row.
        """
        recipe = self._started()
        recipe = recipe._replace(levels=(*recipe.levels, centroids))
        return self._set_recipe(recipe, len(centroids))

    def step(self, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Do one Lloyd step over all rows.

        Args:
            centroids: Centroids (K, D), or (K, D + 1) with prices, see ``capacity``.

        Returns:
            Sums (K, D) float64 and counts (K,) int64, exact.
        """
        moved = self._moved(centroids) if self._device == "cpu" else None
        work = partial(step_pass, centroids=centroids, bits=self.grid.bits, moved=moved, device=self._device)
        self._steps += 1
        floors = floors_for(len(self._partitions), centroids.size * 8, COMBINE_BYTES)
        found: Sums = self._run(work, step=self._steps, floors=floors)
        if self._weighted:
            return np.ldexp(found.sums.astype(np.float64), -self.grid.bits), found.counts
        return found

    def sample(self, size: int, seed: int) -> Sample:
        """Return the distinct rows with the smallest hashes, a sample that does not depend on partitions or row order.

        Args:
            size: Number of rows, at least 1; all distinct rows if there are fewer.
            seed: Seed for the hashes, in [0, 2**64).
        """
        share = min(1.0, 2 * size / self.facts().rows)
        while True:
            found: Sample = self._run(partial(sample_pass, size=size, seed=seed, below=int(share * HASH_RANGE)))
            if len(found.hashes) >= size or share == 1.0:
                return Sample(*(part[:size] for part in found))
            share = min(1.0, 8 * share)  # the share was too small, because many rows are equal

    def draw(self, candidates: np.ndarray, seed: int, odds: float) -> Sample:
        """Draw rows far from the candidates (K, D), see ``file_passes.draw_pass``."""
        found: Sample = self._run(partial(draw_pass, candidates=candidates, seed=seed, odds=odds))
        return found

    def close(self) -> None:
        """Remove the files and every broadcast."""
        self._remove_files()
        for broadcast in self._broadcasts:
            broadcast.destroy()
        self._broadcasts = []

    def _moved(self, centroids: np.ndarray) -> np.ndarray | None:
        """Return which centroids (K,) moved since the last step of this level; None if most did, or there was no step."""
        last, self._last = self._last, centroids
        if last is None or last.shape != centroids.shape:
            return None
        moved = (last != centroids).any(axis=1)
        return moved if moved.mean() < _MOST_MOVED else None

    def _set_recipe(self, recipe: Recipe, num_centroids: int) -> Moments:
        """Store the rows of a new level and return their moments."""
        self._recipe, self._last = recipe, None
        self._broadcasts.append(self.context.broadcast(recipe))
        work = partial(describe_pass, bits=recipe.grid.bits, num_centroids=num_centroids)
        found: Level = self._run(work, again=True)
        steps = found.sums if self._weighted else np.ldexp(found.sums, recipe.grid.bits)
        squared_sums = sum(int(value) ** 2 for value in steps)
        variance = (found.weight * found.energy - squared_sums) / (
            found.weight**2 * self.dim
        )  # rounded once, as the others are integers
        return Moments(found.energy, found.weight, math.ldexp(variance, -2 * recipe.grid.bits), found.counts)

    def _run(self, work: Callable, *, floors: int = 1, again: bool = False, step: int | None = None) -> Any:
        """Run a pass where the files lie, and a second one from the source for partitions without a file there."""
        level, handles = len(self._started().levels), self._stored()
        worker = partial(run_pass, work=work, recipe=self._broadcasts[-1], level=level, again=again, step=step)
        filled = [index for index, partition in enumerate(self._partitions) if partition.rows]
        if floors > 1:
            outcome = handles.mapPartitions(worker).treeReduce(add_outcomes, floors)
        else:
            outcome = functools.reduce(add_outcomes, self.context.runJob(handles, worker, filled))
        if outcome.missing:
            logger.warning(
                "%d partitions are read again, because the executors of their tasks do not hold them",
                len(outcome.missing),
            )
            again_read = self.context.runJob(self._source, worker, outcome.missing)
            outcome = functools.reduce(add_outcomes, again_read, outcome._replace(missing=[]))
        self._check_read_again(outcome.digests, filled)
        return outcome.result

    def _stored(self) -> RDD[Handle]:
        """Return the paths and facts of the files."""
        assert self._handles is not None, "close removes the files"
        return self._handles

    def _check_read_again(self, digests: dict[int, int], filled: list[int]) -> None:
        """Compare the digests of all partitions with those of the first pass.

        Raises:
            RuntimeError: A partition has other rows than before.
        """
        changed = [index for index in filled if digests.get(index) != self._partitions[index].digest]
        if changed:
            raise RuntimeError(
                f"{len(changed)} partitions were read again after an executor was lost, and their rows have changed. "
                "Write the DataFrame to a table and fit on that."
            )

    def _remove_files(self) -> None:
        """Remove the files of this fit. It reads no source again, and raises nothing that could hide another error."""
        if self._handles is None:
            return
        self.context.setLocalProperty(SKIP, "true")
        try:
            self.context.runJob(self._handles, _remove_folders)
        except Exception as error:  # the folders go with the executors
            logger.debug("Spark will remove the files of the fit, because this failed: %s", error)
        finally:
            # None removes the property.
            self.context.setLocalProperty(SKIP, None)  # type: ignore[arg-type]  # pyspark's annotation lacks None
            self._handles.unpersist()
            self._handles = None


def _indexed(index: int, rows: Iterable[Row]) -> list[Handle]:
    """Return the facts of a partition with its number."""
    return [(index, Partition(*row)) for row in rows]


def _write_splits(index: int, parts: Iterable[list[Split]], columns: list[str], fit_id: str) -> list[Handle]:
    """Store the rows of a partition's splits and return its facts with its number."""
    batches = chain.from_iterable(read_splits(splits, columns) for splits in parts)
    return [(index, write_partition(batches, fit_id, weighted=False))]


def _same(rows: Iterable[Handle]) -> Iterable[Handle]:
    """Return what it is given, for an RDD that is persisted apart from the one it derives from."""
    return rows


def _remove_folders(rows: Iterable[Handle]) -> list[int]:
    """Remove the files of the fit on this executor."""
    for _, partition in rows:
        remove_folder(partition.stem)
    return []
