"""Co-clicks measure codes by the behavior of users: good codes give co-clicked items common prefixes and near centroids.

In: pairs of items that a user liked, such as co-clicks, and the codes of all items. Out: the share of pairs with a common
prefix of 1 to L codes, with its value after the targets were exchanged among the pairs, and hits among the k nearest items.
Items with the same semantic ID are equally near, so a target counts with the probability that it is among the first k in a
random order of equally near items. This is the exact expectation over all items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.codebooks.errors import matrix
from qarm_features.evaluation.neighborhoods import decode

_BLOCK = 4096  # number of semantic IDs whose scores with all pairs are in memory at once
_ENDS = ("trigger_item_id", "target_item_id")
_STEPS = 2.0**20  # scores are rounded to 1 / 2**20, so that they do not depend on the rows of a batch


class CodedPairs(NamedTuple):
    """Codes of the pairs in which both items have codes.

    Attributes:
        pair: (P,) int64 numbers of the pairs.
        trigger: (P, L) int32 codes of the trigger items.
        target: (P, L) int32 codes of the target items.
        trigger_item: (P,) int64 numbers of the trigger items.
        target_item: (P,) int64 numbers of the target items. Equal items have equal numbers, also on the other side.
    """

    pair: np.ndarray
    trigger: np.ndarray
    target: np.ndarray
    trigger_item: np.ndarray
    target_item: np.ndarray

    def of(self, kept: np.ndarray) -> CodedPairs:
        """Return some of the pairs.

        Args:
            kept: (P,) bool.
        """
        return CodedPairs(*(values[kept] for values in self))


def coded_pairs(pairs: DataFrame, codes: DataFrame) -> CodedPairs:
    """Look up the codes of pairs on the driver.

    Args:
        pairs: ``pair``, ``trigger_item_id``, ``target_item_id``, of bounded number.
        codes: ``item_id``, ``rq_codes`` (L) of all items.
    """
    for side in ("trigger", "target"):
        side_codes = codes.select(F.col("item_id").alias(f"{side}_item_id"), F.col("rq_codes").alias(side))
        pairs = pairs.join(side_codes, on=f"{side}_item_id", how="inner")
    found = pairs.select("pair", "trigger", "target", *_ENDS).orderBy("pair").toArrow()
    both = (matrix(found[side].combine_chunks(), np.int32) for side in ("trigger", "target"))
    items = pd.concat([found[name].to_pandas() for name in _ENDS], ignore_index=True)
    numbers = pd.factorize(items)[0].astype(np.int64).reshape(2, -1)
    return CodedPairs(found["pair"].to_numpy(), *both, *numbers)


def shared_lengths(pairs: CodedPairs) -> np.ndarray:
    """Return the number (P,) of codes that the common prefix of each pair has, from 0 to L."""
    lengths: np.ndarray = np.cumprod(pairs.trigger == pairs.target, axis=1).sum(axis=1)
    return lengths


def shuffled_shares(pairs: CodedPairs) -> list[float | None]:
    """Return the share of pairs with a common prefix of each length after the targets were exchanged among the pairs.

    It is the exact share among all combinations of a trigger of one pair with a target of any pair that is another item.
    Popular items keep their popularity, so this is what popularity of both sides gives without a relation between them.

    Args:
        pairs: The P pairs.

    Returns:
        For each length of prefix from 1 to L a share in [0, 1], None where no trigger can meet another item.

    Example:
        >>> codes, items = np.array([[0, 1], [0, 2]]), np.array([1, 2])
        >>> shuffled_shares(CodedPairs(np.arange(2), codes, codes[::-1], items, items[::-1]))
        [1.0, 0.0]
    """
    same_item = _meetings(pairs.trigger_item[:, None], pairs.target_item[:, None])
    combinations = len(pairs.pair) ** 2 - same_item
    if not combinations:
        return [None] * pairs.trigger.shape[1]
    lengths = range(1, pairs.trigger.shape[1] + 1)
    meetings = (_meetings(pairs.trigger[:, :length], pairs.target[:, :length]) for length in lengths)
    return [(meeting - same_item) / combinations for meeting in meetings]


def _meetings(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many combinations of a row (B, N) of one side with one of the other side are equal."""
    sides = (pd.Series(list(map(tuple, rows.tolist()))).value_counts() for rows in (one, other))
    return int(next(sides).mul(next(sides), fill_value=0).sum())


def code_hits(pairs: CodedPairs, codes: DataFrame, codebooks: np.ndarray, *, k: int) -> np.ndarray:
    """Return the probability that each target is among the k items nearest to its trigger by code.

    Args:
        pairs: At least one pair.
        codes: ``rq_codes`` (L) of all items. All items but the trigger are ranked.
        codebooks: (L, K, D) float32 centroids.
        k: Number of nearest items, at least 1.

    Returns:
        (P,) probabilities in [0, 1], in the order of the pairs. Their mean is HitRate@k.
    """
    buckets = codes.groupBy("rq_codes").agg(F.count("*").alias("items"))
    shared = codes.sparkSession.sparkContext.broadcast((pairs, codebooks))

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        all_pairs, centroids = shared.value
        nearer, tied = np.zeros(len(all_pairs.pair), np.int64), np.zeros(len(all_pairs.pair), np.int64)
        for batch in batches:
            for start in range(0, batch.num_rows, _BLOCK):
                part = batch.slice(start, _BLOCK)
                ids, items = matrix(part["rq_codes"], np.int32), part["items"].to_numpy()
                more_nearer, more_tied = _count_nearer(ids, items, all_pairs, centroids)
                nearer, tied = nearer + more_nearer, tied + more_tied
        columns = [pa.array(all_pairs.pair), pa.array(nearer), pa.array(tied)]
        yield pa.RecordBatch.from_arrays(columns, ["pair", "nearer", "tied"])

    counted = buckets.mapInArrow(count, "pair long, nearer long, tied long")
    total = counted.groupBy("pair").agg(F.sum("nearer"), F.sum("tied")).orderBy("pair").toArrow()
    shared.unpersist()
    return expected_hits(total.column(1).to_numpy(), total.column(2).to_numpy(), k=k)


def expected_hits(nearer: np.ndarray, tied: np.ndarray, *, k: int) -> np.ndarray:
    """Return the probability that each target is among the k nearest items, with ties in random order.

    Args:
        nearer: (P,) numbers of items that are nearer than the target.
        tied: (P,) numbers of items that are as near as the target, including the target.
        k: Number of nearest items, at least 1.

    Returns:
        (P,) probabilities in [0, 1].

    Example:
        >>> expected_hits(np.array([0, 9, 10]), np.array([1, 4, 1]), k=10).tolist()
        [1.0, 0.25, 0.0]
    """
    return np.clip((k - nearer) / np.maximum(tied, 1), 0.0, 1.0)


def _count_nearer(codes: np.ndarray, items: np.ndarray, pairs: CodedPairs, codebooks: np.ndarray) -> np.ndarray:
    """Count the items that are nearer to the trigger than the target, and those that are as near.

    Args:
        codes: (B, L) semantic IDs.
        items: (B,) numbers of items of each semantic ID.
        pairs: The P pairs.
        codebooks: (L, K, D) float32 centroids.

    Returns:
        (2, P) int64 counts.
    """
    decoded = [decode(rows, codebooks) for rows in (codes, pairs.trigger, pairs.target)]
    ids, triggers, targets = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in decoded)
    least = np.rint(_STEPS * np.einsum("pd,pd->p", triggers, targets))
    scores = np.rint(_STEPS * (ids @ triggers.T))  # (block, P)
    is_target = _equal_rows(codes, pairs.target)
    tied = (scores == least) | is_target
    is_trigger = _equal_rows(codes, pairs.trigger)
    nearer = (scores > least) & ~is_target
    counts = items[:, None] - is_trigger  # the trigger itself is not ranked
    return np.stack([(counts * nearer).sum(axis=0), (counts * tied).sum(axis=0)]).astype(np.int64)


def _equal_rows(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (B, P) bool, True where a row of (B, L) equals a row of (P, L)."""
    equal = np.ones((len(one), len(other)), bool)
    for level in range(one.shape[1]):
        equal &= one[:, level][:, None] == other[:, level][None]
    return equal
