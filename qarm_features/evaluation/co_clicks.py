"""Whether codes know what users do: co-clicked items share prefixes, and are near each other as codes.

In: pairs of items that users clicked one after the other, codes of all items. Out: the share of pairs with a common prefix
of 1 to L codes, and HitRate@k, each beside what chance gives. Items of one semantic ID are equally near, so a target counts
as found by the share of its bucket that fits into the first k: an exact expectation, over all items.
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

_BLOCK = 4096  # semantic IDs whose scores against all pairs are held at once
_STEPS = 2.0**20  # scores are rounded, so that they do not depend on what rows stand together


class CodedPairs(NamedTuple):
    """Codes of the pairs whose items both have some.

    Attributes:
        pair: (P,) int64, the pair's number.
        trigger: (P, L) int32.
        target: (P, L) int32.
    """

    pair: np.ndarray
    trigger: np.ndarray
    target: np.ndarray


def coded_pairs(pairs: DataFrame, codes: DataFrame) -> CodedPairs:
    """Looks up the codes of ``pairs`` (``pair``, ``trigger_item_id``, ``target_item_id``), of which there is a most."""
    for side in ("trigger", "target"):
        of_side = codes.select(F.col("item_id").alias(f"{side}_item_id"), F.col("rq_codes").alias(side))
        pairs = pairs.join(of_side, on=f"{side}_item_id", how="inner")
    found = pairs.select("pair", "trigger", "target").orderBy("pair").toArrow()
    both = (matrix(found[side].combine_chunks(), np.int32) for side in ("trigger", "target"))
    return CodedPairs(found["pair"].to_numpy(), *both)


def shared_prefixes(pairs: CodedPairs) -> list[dict[str, float]]:
    """Returns per number of codes, 1 to L, the share of pairs that have them in common, and that of chance.

    Chance is the share among all pairings of a trigger of one pair with a target of another: popular items stay popular.
    """
    levels = []
    same = np.cumprod(pairs.trigger == pairs.target, axis=1).mean(axis=0)
    for depth in range(1, pairs.trigger.shape[1] + 1):
        sides = [pd.Series(list(map(tuple, codes[:, :depth]))).value_counts(normalize=True) for codes in pairs[1:]]
        chance = sides[0].mul(sides[1], fill_value=0).sum()
        levels.append({"codes": depth, "share": float(same[depth - 1]), "chance": float(chance)})
    return levels


def hit_rate(pairs: CodedPairs, codes: DataFrame, codebooks: np.ndarray, *, k: int) -> float:
    """Returns how often a target is expected among the k items nearest to its trigger as codes, all other items ranked.

    Args:
        pairs: At least one.
        codes: ``rq_codes`` (L) of all items.
        codebooks: (L, K, D) float32.
        k: At least 1.
    """
    buckets = codes.groupBy("rq_codes").agg(F.count("*").alias("items"))
    shared = codes.sparkSession.sparkContext.broadcast((pairs, codebooks))

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        of_pairs, tables = shared.value
        nearer, tied = np.zeros(len(of_pairs.pair), np.int64), np.zeros(len(of_pairs.pair), np.int64)
        for batch in batches:
            for start in range(0, batch.num_rows, _BLOCK):
                part = batch.slice(start, _BLOCK)
                more = _count_nearer(matrix(part["rq_codes"], np.int32), part["items"].to_numpy(), of_pairs, tables)
                nearer, tied = nearer + more[0], tied + more[1]
        columns = [pa.array(of_pairs.pair), pa.array(nearer), pa.array(tied)]
        yield pa.RecordBatch.from_arrays(columns, ["pair", "nearer", "tied"])

    counted = buckets.mapInArrow(count, "pair long, nearer long, tied long")
    total = counted.groupBy("pair").agg(F.sum("nearer"), F.sum("tied")).orderBy("pair").toArrow()
    shared.unpersist()
    return float(expected_hits(total.column(1).to_numpy(), total.column(2).to_numpy(), k=k).mean())


def expected_hits(nearer: np.ndarray, tied: np.ndarray, *, k: int) -> np.ndarray:
    """Returns the chance (P,) that a target is among the first k when ``nearer`` items (P,) come before it and it stands at
    random among ``tied`` (P,) equally near ones, itself among them."""
    return np.clip((k - nearer) / np.maximum(tied, 1), 0.0, 1.0)


def _count_nearer(codes: np.ndarray, items: np.ndarray, pairs: CodedPairs, codebooks: np.ndarray) -> np.ndarray:
    """Returns (2, P): items of these semantic IDs that are nearer to the trigger than the target is, and as near."""
    spaces = [decode(of, codebooks) for of in (codes, pairs.trigger, pairs.target)]
    ids, triggers, targets = (of / np.maximum(np.linalg.norm(of, axis=1, keepdims=True), 1e-12) for of in spaces)
    least = np.rint(_STEPS * np.einsum("pd,pd->p", triggers, targets))
    scores = np.rint(_STEPS * (ids @ triggers.T))  # (block, P)
    of_target = _equal_rows(codes, pairs.target)
    tied = (scores == least) | of_target
    own = _equal_rows(codes, pairs.trigger)  # the trigger itself is not ranked
    nearer = (scores > least) & ~of_target
    counts = items[:, None] - own
    return np.stack([(counts * nearer).sum(axis=0), (counts * tied).sum(axis=0)]).astype(np.int64)


def _equal_rows(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns (B, P) bool: which rows of (B, L) and (P, L) are equal."""
    equal = np.ones((len(one), len(other)), bool)
    for level in range(one.shape[1]):
        equal &= one[:, level][:, None] == other[:, level][None]
    return equal
