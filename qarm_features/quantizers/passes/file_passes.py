"""The work of a task of the fit on the rows of its partitions.

In: ``Chunk``s of one level. Out: one small result per task. The results of tasks can be added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pyspark import Broadcast

from qarm_features.quantizers.arrays.capacity import with_price_column
from qarm_features.quantizers.arrays.grid import energy_in_steps, hash_rows
from qarm_features.quantizers.arrays.lloyd import cluster_sums, nearest_centroids, nearest_codes
from qarm_features.quantizers.arrays.resting_centroids import nearest_after_moves
from qarm_features.quantizers.passes.local_files import Chunk, Partition, is_here, level_chunks, step_chunks
from qarm_features.quantizers.passes.task_device import task_device

Chunks = Iterator[Chunk]
_Total = TypeVar("_Total")


class Outcome(NamedTuple):
    """What a task found.

    Attributes:
        digests: Digest of each partition that the task read, by the number of the partition.
        missing: Numbers of the partitions whose files are not on this executor.
        result: Result of the pass, None if the task read no partition.
    """

    digests: dict[int, int]
    missing: list[int]
    result: Any


class Sums(NamedTuple):
    """Sums and counts of a Lloyd step, see ``lloyd.cluster_sums``.

    Attributes:
        sums: Sums (K, D) of the rows of each centroid.
        counts: Number of rows (K,) of each centroid.
    """

    sums: np.ndarray
    counts: np.ndarray


class Level(NamedTuple):
    """Exact sums over all rows of a level.

    Attributes:
        energy: Sum of squares, weighted if rows have weights, in squared grid steps.
        sums: Sums (D,) of the rows, weighted if they have weights, see ``lloyd.cluster_sums``.
        weight: Sum of the weights in their steps, or the number of rows.
        counts: Number of rows (K,) of each centroid that was subtracted last.
    """

    energy: int
    sums: np.ndarray
    weight: int
    counts: np.ndarray


class Sample(NamedTuple):
    """Distinct rows, ordered by their hashes.

    Attributes:
        hashes: Hash (B,) int64 of each row.
        rows: Rows (B, D) float32.
        weights: Total weight (B,) int64 of the rows that are equal to each.
    """

    hashes: np.ndarray
    rows: np.ndarray
    weights: np.ndarray


def run_pass(
    partitions: Iterable[tuple[int, Partition]],
    work: Callable[[Chunks], Any],
    recipe: Broadcast,
    level: int,
    again: bool = False,
    step: int | None = None,
) -> list[Outcome]:
    """Run a pass over the partitions of a task.

    Args:
        partitions: Numbers and facts of the partitions.
        work: Function from the chunks of all partitions to the result.
        recipe: Recipe of the level.
        level: Index of the level, from 0.
        again: True computes the rows of the level again, although they may be stored, to learn their codes.
        step: Number of the Lloyd step, None for other passes.
    """
    here: list[tuple[int, Partition]] = []
    missing: list[int] = []
    for index, partition in partitions:
        if not partition.rows:
            continue
        if is_here(partition, level):
            here.append((index, partition))
        else:
            missing.append(index)
    chunks: Iterable[Chunks]
    if step is None:
        chunks = (level_chunks(partition, recipe.value, level, again=again) for _, partition in here)
    else:
        chunks = (step_chunks(partition, recipe.value, level, step) for _, partition in here)
    result = work(chain.from_iterable(chunks)) if here else None
    digests = {index: partition.digest for index, partition in here}
    return [Outcome(digests, missing, result)]


def add_outcomes(one: Outcome, other: Outcome) -> Outcome:
    """Add the outcomes of two tasks."""
    results = [outcome.result for outcome in (one, other) if outcome.result is not None]
    result = results[0] if len(results) == 1 else None
    if len(results) == 2:
        kind = type(results[0])
        add = _join_samples if kind is Sample else lambda a, b: kind(*(x + y for x, y in zip(a, b)))
        result = add(*results)
    return Outcome(one.digests | other.digests, one.missing + other.missing, result)


def step_pass(
    chunks: Chunks, centroids: np.ndarray, bits: int, moved: np.ndarray | None = None, device: str = "cpu"
) -> Sums:
    """Do one Lloyd step.

    Args:
        chunks: Rows of the task, at least one chunk; the step fills in their codes.
        centroids: Centroids (K, D), or (K, D + 1) with prices, see ``capacity``.
        bits: Bits of the grid.
        moved: True (K,) for each centroid that moved since the step before; None if most did.
        device: Name of the device of the products, see ``task_device``.
    """
    total: Sums | None = None
    for chunk in chunks:
        rows = with_price_column(chunk.embeddings, centroids)
        if moved is None or chunk.before is None:
            codes = nearest_codes(rows, centroids, task_device(device))
        else:
            codes = nearest_after_moves(rows, chunk.before, centroids, moved)
        if chunk.codes is not None:
            chunk.codes[:] = codes
        part = cluster_sums(chunk.embeddings, codes, len(centroids), chunk.weights, bits)
        if total is None:
            total = Sums(*part)
        else:
            for whole, more in zip(total, part):
                whole += more
    return _not_empty(total)


def describe_pass(chunks: Chunks, bits: int, num_centroids: int) -> Level:
    """Add up squares, features and codes of the rows of a level.

    Args:
        chunks: Rows of the task, at least one chunk.
        bits: Bits of the grid.
        num_centroids: Number of centroids K that were subtracted last.
    """
    energy, weight, counts = 0, 0, np.zeros(num_centroids, np.int64)
    total: np.ndarray | None = None
    for chunk in chunks:
        rows = len(chunk.embeddings)
        energy += energy_in_steps(chunk.embeddings, bits, chunk.weights)
        if chunk.weights is None:
            sums, rows_or_weight = chunk.embeddings.sum(axis=0, dtype=np.float64), rows  # exact in any order
        else:
            sums, counts_of_one = cluster_sums(chunk.embeddings, np.zeros(rows, np.int32), 1, chunk.weights, bits)
            sums, rows_or_weight = sums[0], int(counts_of_one[0])
        total, weight = sums if total is None else total + sums, weight + rows_or_weight
        if chunk.codes is not None:
            counts += np.bincount(chunk.codes, minlength=num_centroids)
    return Level(energy, _not_empty(total), weight, counts)


def sample_pass(chunks: Chunks, size: int, seed: int, below: int) -> Sample:
    """Return the distinct rows with the smallest hashes.

    Args:
        chunks: Rows of the task, at least one chunk.
        size: Maximal number of rows, at least 1.
        seed: Seed for the hashes, in [0, 2**64).
        below: Bound of the hashes, which rows must not reach.
    """
    waiting: list[Sample] = []
    num_waiting = 0
    for chunk in chunks:
        hashes = hash_rows(chunk.embeddings, seed)
        chosen = np.flatnonzero(hashes < below) if below < 2**63 else np.arange(len(hashes))
        weights = np.ones(len(chosen), np.int64) if chunk.weights is None else chunk.weights[chosen]
        waiting.append(Sample(hashes[chosen], chunk.embeddings[chosen], weights))
        num_waiting += len(chosen)
        if num_waiting > 2 * size:
            waiting = [_smallest(waiting, size)]
            num_waiting = len(waiting[0].hashes)
    return _smallest(waiting, size)


def _smallest(samples: list[Sample], size: int) -> Sample:
    """Join samples and return the ``size`` rows with the smallest hashes."""
    return Sample(*(part[:size] for part in _join_samples(*samples)))


def draw_pass(chunks: Chunks, candidates: np.ndarray, seed: int, odds: float) -> Sample:
    """Draw distinct rows far from the candidates.

    Args:
        chunks: Rows of the task, at least one chunk.
        candidates: Candidates (K, D).
        seed: Seed for the draw, in [0, 2**64).
        odds: Probability to draw a row, per squared distance to its nearest candidate.
    """
    total: Sample | None = None
    for chunk in chunks:
        _, distances = nearest_centroids(chunk.embeddings, candidates)
        chances = hash_rows(chunk.embeddings, seed) / 2.0**63
        chosen = np.flatnonzero(chances < odds * distances)
        rows = chunk.embeddings[chosen]
        found = distinct_rows(Sample(hash_rows(rows, seed), rows, np.ones(len(rows), np.int64)))
        total = found if total is None else _join_samples(total, found)
    return _not_empty(total)


def _not_empty(total: _Total | None) -> _Total:
    """Return a sum over chunks, of which there is at least one."""
    assert total is not None, "only partitions with rows are read"
    return total


def distinct_rows(sample: Sample) -> Sample:
    """Merge equal rows, add their weights, and order the rows by hash, then by value."""
    if len(sample.hashes) == 0:
        return sample
    keys = np.lexsort((*sample.rows.T[::-1], sample.hashes)) if _has_ties(sample.hashes) else sample.hashes.argsort()
    hashes, rows, weights = (part[keys] for part in sample)
    fresh = np.concatenate([[True], (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1]).any(axis=1)])
    starts = np.flatnonzero(fresh)
    return Sample(hashes[starts], rows[starts], np.add.reduceat(weights, starts))


def _has_ties(hashes: np.ndarray) -> bool:
    """Return True if two hashes (B,) are equal."""
    ordered = np.sort(hashes)
    return bool((ordered[1:] == ordered[:-1]).any())


def _join_samples(*samples: Sample) -> Sample:
    """Join samples and merge equal rows."""
    return distinct_rows(Sample(*(np.concatenate(parts) for parts in zip(*samples))))
