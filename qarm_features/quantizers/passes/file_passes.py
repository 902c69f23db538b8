"""What tasks of the fit do with the rows of their partitions: functions from chunks to one small result.

In: `Chunk`s of one level. Out: results that can be added: of two tasks, or of a task and another attempt elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from pyspark import Broadcast

from qarm_features.quantizers.arrays.capacity import beside_prices
from qarm_features.quantizers.arrays.grid import energy_in_steps, hash_rows
from qarm_features.quantizers.arrays.lloyd import cluster_sums, nearest_centroids, nearest_codes
from qarm_features.quantizers.arrays.resting_centroids import nearest_after_moves
from qarm_features.quantizers.passes.local_files import Chunk, Partition, is_here, level_chunks, step_chunks
from qarm_features.quantizers.passes.task_device import task_device

Chunks = Iterator[Chunk]


class Outcome(NamedTuple):
    """What a task found: digests of the partitions it read, partitions whose files are not here, and its result."""

    digests: dict[int, int]
    missing: list[int]
    result: Any


class Sums(NamedTuple):
    """Sums (K, D) and counts (K,) of a Lloyd step, see `lloyd.cluster_sums`."""

    sums: np.ndarray
    counts: np.ndarray


class Level(NamedTuple):
    """Exact sums over all rows of a level."""

    energy: int  # sum of (weighted) squares, in squared grid steps
    sums: np.ndarray  # (D,) of (weighted) rows, as of `cluster_sums`
    weight: int  # sum of weights in their steps, or rows
    counts: np.ndarray  # (K,) rows of each centroid that led here


class Sample(NamedTuple):
    """Distinct rows: hashes (B,) int64, rows (B, D) float32 and the weight of the rows equal to each (B,) int64."""

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
    """Runs a pass over the partitions of a task; a Lloyd step has a number."""
    here, missing = [], []
    for index, partition in partitions:
        if partition.rows:
            (here if is_here(partition, level) else missing).append((index, partition))
    if step is None:
        chunks = (level_chunks(partition, recipe.value, level, again=again) for _, partition in here)
    else:
        chunks = (step_chunks(partition, recipe.value, level, step) for _, partition in here)
    result = work(chain.from_iterable(chunks)) if here else None
    digests = {index: partition.digest for index, partition in here}
    return [Outcome(digests, [index for index, _ in missing], result)]


def add_outcomes(one: Outcome, other: Outcome) -> Outcome:
    """Adds two tasks' outcomes."""
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
    """Does one Lloyd step; moved (K,) bool says which centroids did since the step before, None that most did.

    Centroids are (K, D), or (K, D + 1) with prices, see `capacity`.
    """
    total = None
    for chunk in chunks:
        rows = beside_prices(chunk.embeddings, centroids)
        if moved is None or chunk.before is None:
            codes = nearest_codes(rows, centroids, task_device(device))
        else:
            codes = nearest_after_moves(rows, chunk.before, centroids, moved)
        chunk.codes[:] = codes
        part = cluster_sums(chunk.embeddings, codes, len(centroids), chunk.weights, bits)
        if total is None:
            total = Sums(*part)
        else:
            for whole, more in zip(total, part):
                whole += more
    return total


def describe_pass(chunks: Chunks, bits: int, num_centroids: int) -> Level:
    """Adds up squares, features and codes."""
    energy, total, weight, counts = 0, 0, 0, np.zeros(num_centroids, np.int64)
    for chunk in chunks:
        rows = len(chunk.embeddings)
        energy += energy_in_steps(chunk.embeddings, bits, chunk.weights)
        if chunk.weights is None:
            sums, rows_or_weight = chunk.embeddings.sum(axis=0, dtype=np.float64), rows  # exact in any order
        else:
            sums, counts_of_one = cluster_sums(chunk.embeddings, np.zeros(rows, np.int32), 1, chunk.weights, bits)
            sums, rows_or_weight = sums[0], int(counts_of_one[0])
        total, weight = total + sums, weight + rows_or_weight
        if chunk.codes is not None:
            counts += np.bincount(chunk.codes, minlength=num_centroids)
    return Level(energy, total, weight, counts)


def sample_pass(chunks: Chunks, size: int, seed: int, below: int) -> Sample:
    """Takes the distinct rows of the smallest hashes, `size` at most, all of them below the given one."""
    waiting, num_waiting = [], 0
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
    return Sample(*(part[:size] for part in _join_samples(*samples)))


def draw_pass(chunks: Chunks, candidates: np.ndarray, seed: int, odds: float) -> Sample:
    """Draws each distinct row with probability odds times its squared distance to the nearest of candidates (K, D)."""
    total = None
    for chunk in chunks:
        _, distances = nearest_centroids(chunk.embeddings, candidates)
        chances = hash_rows(chunk.embeddings, seed) / 2.0**63
        chosen = np.flatnonzero(chances < odds * distances)
        rows = chunk.embeddings[chosen]
        found = distinct_rows(Sample(hash_rows(rows, seed), rows, np.ones(len(rows), np.int64)))
        total = found if total is None else _join_samples(total, found)
    return total


def distinct_rows(sample: Sample) -> Sample:
    """Merges equal rows and orders them by hash, then by value."""
    if len(sample.hashes) == 0:
        return sample
    keys = np.lexsort((*sample.rows.T[::-1], sample.hashes)) if _has_ties(sample.hashes) else sample.hashes.argsort()
    hashes, rows, weights = (part[keys] for part in sample)
    fresh = np.concatenate([[True], (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1]).any(axis=1)])
    starts = np.flatnonzero(fresh)
    return Sample(hashes[starts], rows[starts], np.add.reduceat(weights, starts))


def _has_ties(hashes: np.ndarray) -> bool:
    ordered = np.sort(hashes)
    return bool((ordered[1:] == ordered[:-1]).any())


def _join_samples(*samples: Sample) -> Sample:
    return distinct_rows(Sample(*(np.concatenate(parts) for parts in zip(*samples))))
