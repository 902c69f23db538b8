"""Which new centroid stands for which old one: the labels under which most items keep their codes.

In: old and new codes of the items that both versions know. Out: a permutation of the K centroids per level, and how many
items keep their codes. Counts are made in Spark; at most one row per pair of codes that occurs reaches the driver.

Source: optimal assignment, ``scipy.optimize.linear_sum_assignment``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.optimize import linear_sum_assignment

from qarm_features.codebooks.errors import matrix


def match_codes(new: np.ndarray, old: np.ndarray, weights: np.ndarray, codebook_size: int) -> np.ndarray:
    """Gives each new centroid the label of an old one, so that the weight of the pairs that agree is the largest.

    A pair that outweighs all other pairs of its row and of its column together is part of a best assignment (swapping it
    in never loses), so such pairs are fixed first, and only what is left becomes a dense matrix: after a warm start almost
    nothing, also for K = 65,536.

    Args:
        new: (P,) new centroids; with ``old`` each pair at most once.
        old: (P,) old labels.
        weights: (P,) above 0.
        codebook_size: K.

    Returns:
        (K,) int32, a permutation: the label of each new centroid.
    """
    labels = np.full(codebook_size, -1, np.int32)
    while len(new):
        rows, columns = (np.bincount(side, weights, minlength=codebook_size) for side in (new, old))
        sure = 3 * weights >= rows[new] + columns[old]  # weight >= (row - weight) + (column - weight)
        order = np.flatnonzero(sure)[np.argsort(-weights[sure], kind="stable")]
        _, first = np.unique(new[order], return_index=True)
        order = order[np.sort(first)]
        _, first = np.unique(old[order], return_index=True)
        order = order[np.sort(first)]
        if not len(order):
            break
        labels[new[order]] = old[order]
        open_pairs = (labels[new] < 0) & ~np.isin(old, labels[labels >= 0])
        new, old, weights = new[open_pairs], old[open_pairs], weights[open_pairs]
    if len(new):
        rows, columns = np.unique(new), np.unique(old)
        dense = np.zeros((len(rows), len(columns)))
        dense[np.searchsorted(rows, new), np.searchsorted(columns, old)] = weights
        chosen = linear_sum_assignment(dense, maximize=True)
        labels[rows[chosen[0]]] = columns[chosen[1]]
    free = np.setdiff1d(np.arange(codebook_size), labels[labels >= 0])
    labels[labels < 0] = free
    return labels


def relabeling(codes: DataFrame, *, level_sizes: list[int]) -> list[np.ndarray]:
    """Chooses the labels of new centroids, level by level.

    A level counts the items that keep all codes before it; the others, whose semantic ID has changed anyway, decide only
    between equals.

    Args:
        codes: ``old_codes`` and ``rq_codes`` (L) of the items that have both.
        level_sizes: K of each level.

    Returns:
        L permutations (K,) int32: the label of each new centroid.
    """
    labels: list[np.ndarray] = []
    for level, size in enumerate(level_sizes):
        worker = partial(_count_pairs, level=level, labels=labels)
        pairs = codes.select("old_codes", "rq_codes").mapInArrow(worker, "new int, old int, items long, kept long")
        counts = pairs.groupBy("new", "old").agg(F.sum("items").alias("items"), F.sum("kept").alias("kept"))
        found = counts.orderBy("new", "old").toArrow()  # at most K x K rows
        new, old, items, kept = (found[name].to_numpy() for name in ("new", "old", "items", "kept"))
        labels.append(match_codes(new, old, kept + items / (items.sum() + 1), size))
    return labels


def code_transitions(codes: DataFrame, *, num_levels: int, codebook_size: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Says where the items of each old code went, and how many kept their codes.

    Args:
        codes: ``old_codes`` and ``rq_codes`` (L) of the items that have both.
        num_levels: L.
        codebook_size: K.

    Returns:
        (L, K) int32, the code that most items of an old code have now, the lowest among equals, -1 where it had none; and
        what ``kept_shares`` returns.
    """
    both = F.explode(F.transform(F.sequence(F.lit(0), F.lit(num_levels - 1)), lambda level: _at(level)))
    pairs = (
        codes.select(both.alias("pair")).groupBy("pair.level", "pair.old", "pair.new").agg(F.count("*").alias("items"))
    )
    most = pairs.groupBy("level", "old").agg(F.max_by("new", F.struct("items", -F.col("new"))).alias("new"))
    new_code = np.full((num_levels, codebook_size), -1, np.int32)
    for row in most.collect():  # at most L x K rows
        new_code[row["level"], row["old"]] = row["new"]
    return new_code, kept_shares(codes, num_levels=num_levels)


def kept_shares(codes: DataFrame, *, num_levels: int) -> dict[str, Any]:
    """Counts the items that have the same codes twice.

    Args:
        codes: ``old_codes`` and ``rq_codes`` (L) of the items that have both.
        num_levels: L.

    Returns:
        ``items``, ``levels`` (L shares with an unchanged code), ``semantic_ids`` (share with an unchanged ID).
    """
    levels = [F.get("old_codes", F.lit(level)) == F.get("rq_codes", F.lit(level)) for level in range(num_levels)]
    same = codes.agg(
        F.count("*").alias("items"),
        F.count_if(F.col("old_codes") == F.col("rq_codes")).alias("whole"),
        *[F.count_if(is_same).alias(f"level_{level}") for level, is_same in enumerate(levels)],
    ).first()
    items = max(same["items"], 1)
    shares = [same[f"level_{level}"] / items for level in range(num_levels)]
    return {"items": same["items"], "levels": shares, "semantic_ids": same["whole"] / items}


def _at(level):
    old, new = F.get("old_codes", level), F.get("rq_codes", level)
    return F.struct(level.alias("level"), old.alias("old"), new.alias("new"))


def _count_pairs(batches: Iterator[pa.RecordBatch], level: int, labels: list[np.ndarray]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if batch.num_rows == 0:
            continue
        old, new = (matrix(batch[name], np.int32) for name in ("old_codes", "rq_codes"))
        kept = np.ones(len(old), bool)
        for before, of_level in enumerate(labels):
            kept &= of_level[new[:, before]] == old[:, before]
        both = np.stack([new[:, level], old[:, level]], axis=1)
        pairs, place = np.unique(both, axis=0, return_inverse=True)
        items = np.bincount(place.ravel(), minlength=len(pairs))
        of_kept = np.bincount(place.ravel()[kept], minlength=len(pairs))
        columns = [pairs[:, 0], pairs[:, 1], items.astype(np.int64), of_kept.astype(np.int64)]
        yield pa.RecordBatch.from_arrays([pa.array(column) for column in columns], ["new", "old", "items", "kept"])
