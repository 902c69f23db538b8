"""User-to-item pairs: for each positive of a user, the most similar item among the user's positives before it.

In: a user's latest positives, item vectors of a retrieval model. Out: (trigger, target) pairs, the trigger always the
earlier item, with the number of users who made each. Source: QARM, arXiv 2411.11739, item alignment (user-to-item).

Cost: rows with their vector are shuffled once, 4 x D bytes a row; then a user's T positives take T x (T_past + block)
products in numpy. No candidate pair is ever shuffled, and the vectors are joined, not broadcast.
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

_BLOCK = 256  # targets whose pasts overlap are multiplied together


def most_similar_past(items: np.ndarray, vectors: np.ndarray, times: np.ndarray, *, behavior_length: int) -> np.ndarray:
    """Finds, for each of a user's positives, the most similar other item among the latest strictly before it.

    Args:
        items: (T,) integers that tell items apart.
        vectors: (T, D) unit L2 norm.
        times: (T,) ascending.
        behavior_length: How many positives before a moment are looked at.

    Returns:
        (T,) int64, places in [0, T), or -1 where nothing is before. Of equally similar ones the latest.
    """
    places = np.arange(len(items))
    before = np.searchsorted(times, times, side="left")
    best = np.full(len(items), -1)
    for start in range(0, len(items), _BLOCK):
        targets = slice(start, start + _BLOCK)
        past = slice(max(0, before[start] - behavior_length), before[targets][-1])
        if past.start == past.stop:
            continue
        # Rounded: float32 products may differ in their last bits with the shape of the block.
        similarity = np.round(vectors[targets] @ vectors[past].T, 5)
        first, end = (before[targets] - behavior_length)[:, None], before[targets][:, None]
        allowed = (places[past] >= first) & (places[past] < end) & (items[past] != items[targets][:, None])
        similarity[~allowed] = -np.inf
        latest_best = past.stop - 1 - np.argmax(similarity[:, ::-1], axis=1)
        best[targets] = np.where(allowed.any(axis=1), latest_best, -1)
    return best


def user_to_item_pairs(latest: DataFrame, item_vectors: DataFrame, *, behavior_length: int) -> DataFrame:
    """Pairs each positive with the most similar item among the user's latest positives strictly before it.

    Args:
        latest: ``user_id``, ``item_id``, ``micros``.
        item_vectors: ``item_id``, ``vector`` (D) of any length, compared by cosine. Positives of an item that has none,
            or one of zeros, are left out.
        behavior_length: How many positives before a moment are looked at.

    Returns:
        ``trigger_item_id``, ``target_item_id``, ``weight`` (users), ``micros`` (of the latest target).
    """
    id_type = latest.schema["item_id"].dataType.simpleString()
    unit = item_vectors.where(F.col("vector").isNotNull())
    unit = unit.select(F.col("item_id").cast(id_type), F.col("vector").cast("array<float>"))
    unit = unit.mapInArrow(_pack_unit_vectors, f"item_id {id_type}, vector binary")
    rows = latest.join(unit, on="item_id", how="inner").select("user_id", "item_id", "micros", "vector")
    rows = rows.repartition("user_id").sortWithinPartitions("user_id", "micros", "item_id")
    find = functools.partial(_pair_users_items, behavior_length=behavior_length)
    pairs = rows.mapInArrow(find, f"trigger_item_id {id_type}, target_item_id {id_type}, micros bigint")
    users, micros = F.count("*").cast("double").alias("weight"), F.max("micros").alias("micros")
    return pairs.groupBy("trigger_item_id", "target_item_id").agg(users, micros)


def _pack_unit_vectors(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
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
    """Yields each pair of a user once, at its latest time."""
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
        target = np.flatnonzero(trigger >= 0)[::-1]  # the latest first, and unique keeps the first
        trigger = trigger[target]
        user = np.searchsorted(users, target, side="right")
        pair = (user * len(distinct.dictionary) + items[trigger]) * len(distinct.dictionary) + items[target]
        once = np.sort(np.unique(pair, return_index=True)[1])
        trigger, target = pa.array(trigger[once]), pa.array(target[once])
        columns = [rows["item_id"].take(trigger), rows["item_id"].take(target), rows["micros"].take(target)]
        yield pa.RecordBatch.from_arrays(columns, ["trigger_item_id", "target_item_id", "micros"])
