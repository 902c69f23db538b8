"""User-to-item pairs join each positive of a user with the most similar item among the user's positives before it.

In: the latest positives of users, and item vectors from a retrieval model. Out: (trigger, target) pairs with the number of
users who made each. The trigger is always the earlier item. Source: QARM, arXiv 2411.11739, item alignment (user-to-item).

Cost: rows with their vectors are shuffled once, 4 x D bytes a row. Then the T positives of a user take
T x (T_past + block) products in numpy. Candidate pairs are never shuffled, and the vectors are joined, not broadcast.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.item_pairs.sorted_groups import group_offsets, packed, unpacked, whole_groups

_BLOCK = 256  # targets that are multiplied together, because their pasts overlap


def most_similar_past(items: np.ndarray, vectors: np.ndarray, times: np.ndarray, *, behavior_length: int) -> np.ndarray:
    """Find the most similar other item strictly before each of a user's positives.

    Args:
        items: (T,) integer IDs of the items.
        vectors: (T, D) vectors of the items, unit L2 norm.
        times: (T,) times, ascending.
        behavior_length: Largest number of positives before a moment that are compared, at least 1.

    Returns:
        (T,) int64 positions in [0, T), or -1 where there is no other item before. Of equally similar items the latest is
        taken.

    Example:
        >>> vectors = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)
        >>> most_similar_past(np.array([5, 6, 7]), vectors, np.array([1, 2, 3]), behavior_length=50).tolist()
        [-1, 0, 0]
    """
    positions = np.arange(len(items))
    before = np.searchsorted(times, times, side="left")
    best = np.full(len(items), -1)
    for start in range(0, len(items), _BLOCK):
        targets = slice(start, start + _BLOCK)
        past = slice(max(0, before[start] - behavior_length), before[targets][-1])
        if past.start == past.stop:
            continue
        # Products are rounded, because the last bits of float32 products depend on the shape of the block.
        similarity = np.round(vectors[targets] @ vectors[past].T, 5)
        first, end = (before[targets] - behavior_length)[:, None], before[targets][:, None]
        allowed = (positions[past] >= first) & (positions[past] < end) & (items[past] != items[targets][:, None])
        similarity[~allowed] = -np.inf
        latest_best = past.stop - 1 - np.argmax(similarity[:, ::-1], axis=1)
        best[targets] = np.where(allowed.any(axis=1), latest_best, -1)
    return best


def user_to_item_pairs(latest: DataFrame, item_vectors: DataFrame, *, behavior_length: int) -> DataFrame:
    """Pair each positive with the most similar item among the user's latest positives strictly before it.

    Args:
        latest: ``user_id``, ``item_id``, ``micros``, ``from_last``.
        item_vectors: ``item_id``, ``vector`` (D) of any norm, compared by cosine. Positives of items without a vector, or
            with a vector of zeros, are left out.
        behavior_length: Largest number of positives before a moment that are compared, at least 1.

    Returns:
        ``trigger_item_id``, ``target_item_id``, ``weight`` (number of users), ``micros`` (time of the latest target).
    """
    id_type = latest.schema["item_id"].dataType.simpleString()
    unit = item_vectors.where(F.col("vector").isNotNull())
    unit = unit.select(F.col("item_id").cast(id_type), F.col("vector").cast("array<float>"))
    unit = unit.mapInArrow(_pack_unit_vectors, f"item_id {id_type}, vector binary")
    rows = latest.join(unit, on="item_id", how="inner").select("user_id", "item_id", "micros", "from_last", "vector")
    rows = rows.repartition("user_id").sortWithinPartitions("user_id", F.desc("from_last"))
    find = functools.partial(_pair_users_items, behavior_length=behavior_length)
    pairs = rows.mapInArrow(find, f"trigger_item_id {id_type}, target_item_id {id_type}, micros bigint")
    users, micros = F.count("*").cast("double").alias("weight"), F.max("micros").alias("micros")
    return pairs.groupBy("trigger_item_id", "target_item_id").agg(users, micros)


def _pack_unit_vectors(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Scale vectors to unit norm and turn them into bytes. Drop rows whose norm is 0 or not finite."""
    for rows in batches:
        if rows.num_rows == 0:
            continue
        vectors = rows["vector"].flatten().to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        usable = np.flatnonzero(np.isfinite(norms) & (norms > 0))
        unit = (vectors[usable] / norms[usable, None]).astype(np.float32)
        offsets = np.arange(len(usable) + 1) * vectors.shape[1]
        columns = [rows["item_id"].take(pa.array(usable)), packed(offsets, unit)]
        yield pa.RecordBatch.from_arrays(columns, ["item_id", "vector"])


def _pair_users_items(batches: Iterator[pa.RecordBatch], *, behavior_length: int) -> Iterator[pa.RecordBatch]:
    """Yield each pair of a user once, at its latest time."""
    for rows in whole_groups(batches, "user_id"):
        users = group_offsets(rows["user_id"])
        distinct = rows["item_id"].dictionary_encode()
        items, times = distinct.indices.to_numpy().astype(np.int64), rows["micros"].to_numpy()
        vectors = unpacked(rows["vector"], np.float32)[1].reshape(len(items), -1)
        trigger = np.full(len(items), -1)
        for start, stop in itertools.pairwise(users):
            own = slice(start, stop)
            best = most_similar_past(items[own], vectors[own], times[own], behavior_length=behavior_length)
            trigger[own] = np.where(best < 0, -1, best + start)
        target = np.flatnonzero(trigger >= 0)[::-1]  # the latest comes first, and np.unique keeps the first
        trigger = trigger[target]
        user = np.searchsorted(users, target, side="right")
        pair = (user * len(distinct.dictionary) + items[trigger]) * len(distinct.dictionary) + items[target]
        once = np.sort(np.unique(pair, return_index=True)[1])
        trigger, target = pa.array(trigger[once]), pa.array(target[once])
        columns = [rows["item_id"].take(trigger), rows["item_id"].take(target), rows["micros"].take(target)]
        yield pa.RecordBatch.from_arrays(columns, ["trigger_item_id", "target_item_id", "micros"])
