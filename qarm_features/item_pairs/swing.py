"""Item-to-item pairs are mined by Swing: two items are similar if many pairs of users who share little else have both.

In: the latest positives of users. Out: the most similar items of every item. With I_u the items of user u, U_i the users
of item i, and w_u = 1 / sqrt(|I_u|)::

    swing(i, j) = sum over user pairs {u, v} in U_i and U_j of  w_u * w_v / (alpha + |I_u and I_v in common|)

Source: Yang et al., *Large Scale Product Graph Construction for Recommendation in E-commerce*, arXiv 2010.05525, section 4;
the weights w_u come from its widely used variant, in which heavy users count no more than light ones.

Cost, with C = ``max_items_per_user`` and H = ``max_users_per_item``: users are never joined with users. Interactions are
shuffled three times as small rows, then once as at most min(interactions, items x H) rows with all items of their user,
at most 12 x C bytes a row, or 16 x C with ``popularity_power``. One item takes at most H x H x C multiplications and
memory for H x C items. The cost grows with the interactions, not with the square of the users.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.item_pairs.sorted_groups import group_offsets, packed, unpacked, whole_groups
from qarm_features.settings.sections import ItemPairs

_BLOCK = 4_000_000  # largest number of entries of a dense product in memory


class Targets(NamedTuple):
    """The target items of one trigger item.

    Attributes:
        items: (J,) int32 target items, ascending.
        scores: (J,) float64 scores, above 0.
        support: (J,) int64 numbers of user pairs behind each score, at least 1.
        micros: (J,) int64 times of the latest interaction with the trigger or the target by a user who has both, in
            microseconds since 1970.
    """

    items: np.ndarray
    scores: np.ndarray
    support: np.ndarray
    micros: np.ndarray


def swing_targets(item: int, offsets: np.ndarray, items: np.ndarray, micros: np.ndarray, *, alpha: float) -> Targets:
    """Score all items against one trigger item.

    Args:
        item: Trigger item.
        offsets: (U + 1,) first entry of each of its U users in ``items``.
        items: Distinct items of every user, including the trigger, joined.
        micros: Times of ``items``, in microseconds since 1970.
        alpha: Smoothing term, at least 0.

    Returns:
        The items that at least two of the users have.

    Example:
        >>> users, micros = np.array([0, 2, 4]), np.array([1, 2, 3, 4])
        >>> found = swing_targets(7, users, np.array([7, 8, 7, 8], np.int32), micros, alpha=1.0)
        >>> found.items.tolist(), found.scores.round(3).tolist()
        ([8], [0.167])
    """
    from scipy.sparse import csr_array

    lengths = np.diff(offsets)
    num_users = len(lengths)
    user = np.repeat(np.arange(num_users), lengths)
    latest = np.maximum(micros, np.repeat(micros[items == item], lengths))
    distinct, column, users_of = np.unique(items, return_inverse=True, return_counts=True)
    shared = users_of >= 2  # an item of one user alone is in no intersection of two users
    if not shared.any():
        return Targets(distinct[:0], np.empty(0), users_of[:0], micros[:0])
    keep = shared[column]
    order = np.argsort(column[keep], kind="stable")
    user, latest, users_of = user[keep][order], latest[keep][order], users_of[shared]
    starts = np.concatenate([[0], np.cumsum(users_of)])
    has = csr_array((np.ones(len(user)), user, starts), shape=(len(users_of), num_users))
    overlaps = (has.T @ has).toarray()
    weights = 1 / np.sqrt(lengths)
    pair_weights = np.outer(weights, weights) / (alpha + np.maximum(overlaps, 1))
    np.fill_diagonal(pair_weights, 0)
    scores = np.empty(len(users_of))
    step = max(1, _BLOCK // num_users)
    for start in range(0, len(users_of), step):
        part = has[start : start + step]
        row = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
        scores[start : start + step] = np.add.reduceat((part @ pair_weights)[row, part.indices], part.indptr[:-1]) / 2
    others = distinct[shared] != item
    found = (distinct[shared], scores, users_of * (users_of - 1) // 2, np.maximum.reduceat(latest, starts[:-1]))
    return Targets(*[values[others] for values in found])


def swing_pairs(latest: DataFrame, item_index: DataFrame, *, settings: ItemPairs, seed: int) -> DataFrame:
    """Find the target items of every item by Swing.

    Args:
        latest: ``user_id``, ``item_id``, ``micros``, the latest positives of users.
        item_index: ``item_id``, ``item``, numbered in the order of the IDs.
        settings: Section ``item_pairs`` of the settings.
        seed: Seed of the hash that samples the users of a popular item.

    Returns:
        ``trigger_item_id``, ``target_item_id``, ``weight``, ``micros``: for each trigger the ``max_pairs_per_item``
        heaviest targets. Of equal weights the smaller IDs come first. Each direction of a pair is found from its trigger.
        With ``popularity_power`` p, a weight is the score divided by the number of users of the target to the power of p.
        With ``reversed_pairs`` both directions of each pair are rows, with the larger of the two weights each. With
        ``max_pairs_per_target``, each target keeps that many of its heaviest triggers.
    """
    once = latest.repartition("user_id").groupBy("user_id", "item_id").agg(F.max("micros").alias("micros"))
    by_draw = Window.partitionBy("item_id").orderBy("draw", "user_id")
    rows = once.join(item_index, on="item_id", how="inner").withColumn("draw", F.xxhash64("user_id", F.lit(seed)))
    rows = rows.withColumn("kept", F.row_number().over(by_draw) <= settings.max_users_per_item)
    attached = {"item": "items", "micros": "times"}
    if settings.popularity_power:
        rows = rows.withColumn("users", F.count("*").over(Window.partitionBy("item_id")).cast("int"))
        attached["users"] = "users"
    by_user = rows.select("user_id", "draw", "kept", *attached).repartition("user_id")
    by_user = by_user.sortWithinPartitions("user_id", "item")
    schema = ", ".join(["item int, draw bigint", *[f"{name} binary" for name in attached.values()]])
    by_item = by_user.mapInArrow(functools.partial(_attach_users_items, attached=attached), schema)
    by_item = by_item.repartition("item").sortWithinPartitions("item", "draw")
    score = functools.partial(
        _score_items,
        alpha=settings.swing_alpha,
        min_support=settings.min_support,
        max_pairs=settings.max_pairs_per_item,
        power=settings.popularity_power or 0.0,
    )
    pairs = by_item.mapInArrow(score, "trigger int, target int, weight double, micros bigint")
    if settings.reversed_pairs:
        pairs = _with_reversed(pairs)
    if settings.max_pairs_per_target is not None:
        heaviest = Window.partitionBy("target").orderBy(F.desc("weight"), "trigger")
        pairs = pairs.withColumn("place", F.row_number().over(heaviest))
        pairs = pairs.where(F.col("place") <= settings.max_pairs_per_target)
    triggers = item_index.select(F.col("item_id").alias("trigger_item_id"), F.col("item").alias("trigger"))
    targets = item_index.select(F.col("item_id").alias("target_item_id"), F.col("item").alias("target"))
    pairs = pairs.join(triggers, on="trigger", how="inner").join(targets, on="target", how="inner")
    return pairs.select("trigger_item_id", "target_item_id", "weight", "micros")


def _with_reversed(pairs: DataFrame) -> DataFrame:
    """Add the other direction of each pair; a pair that is there in both keeps the larger weight and the later time."""
    other = pairs.select(F.col("target").alias("trigger"), F.col("trigger").alias("target"), "weight", "micros")
    both = pairs.unionByName(other).groupBy("trigger", "target")
    return both.agg(F.max("weight").alias("weight"), F.max("micros").alias("micros"))


def _attach_users_items(batches: Iterator[pa.RecordBatch], *, attached: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """Attach all items of a user to each of the user's kept rows, including items whose own rows are not kept."""
    for rows in whole_groups(batches, "user_id"):
        offsets = group_offsets(rows["user_id"])
        lengths = np.diff(offsets)
        user_of_row = np.repeat(np.arange(len(lengths)), lengths)
        kept = np.flatnonzero(rows["kept"].to_numpy(zero_copy_only=False) & (lengths > 1)[user_of_row])
        users = pa.array(user_of_row[kept])
        columns = [rows[name].take(pa.array(kept)) for name in ("item", "draw")]
        columns += [packed(offsets, rows[name].to_numpy()).take(users) for name in attached]
        yield pa.RecordBatch.from_arrays(columns, ["item", "draw", *attached.values()])


def _score_items(
    batches: Iterator[pa.RecordBatch], *, alpha: float, min_support: int, max_pairs: int, power: float
) -> Iterator[pa.RecordBatch]:
    for rows in whole_groups(batches, "item"):
        groups = group_offsets(rows["item"])
        triggers = rows["item"].to_numpy()[groups[:-1]]
        offsets, items = unpacked(rows["items"], np.int32)
        micros = unpacked(rows["times"], np.int64)[1]
        popularity = unpacked(rows["users"], np.int32)[1] if power else None
        found = []
        for trigger, first, last in zip(triggers, groups[:-1], groups[1:]):
            own = slice(offsets[first], offsets[last])
            users = offsets[first : last + 1] - own.start
            targets = swing_targets(trigger, users, items[own], micros[own], alpha=alpha)
            if popularity is not None:
                of_targets = popularity[own][_first_entries(items[own], targets.items)]
                targets = targets._replace(scores=targets.scores / of_targets.astype(np.float64) ** power)
            best = _heaviest(targets, min_support, max_pairs)
            found.append((np.repeat(trigger, len(best.items)), best.items, best.scores, best.micros))
        columns = [pa.array(np.concatenate(parts)) for parts in zip(*found)]
        yield pa.RecordBatch.from_arrays(columns, ["trigger", "target", "weight", "micros"])


def _first_entries(items: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the place in ``items`` of the first entry of each item of ``found``."""
    distinct, first = np.unique(items, return_index=True)
    return first[np.searchsorted(distinct, found)]


def _heaviest(targets: Targets, min_support: int, max_pairs: int) -> Targets:
    """Keep the heaviest targets with enough support.

    Scores are rounded, so that scores that are equal in exact arithmetic tie, whatever the order of their sums.
    """
    targets = targets._replace(scores=np.round(targets.scores, 12))
    enough = np.flatnonzero(targets.support >= min_support)
    best = enough[np.lexsort((targets.items[enough], -targets.scores[enough]))[:max_pairs]]
    return Targets(*[values[best] for values in targets])
