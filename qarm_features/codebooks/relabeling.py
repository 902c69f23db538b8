"""Labels of new centroids under which most items keep their codes.

In: old and new codes of the items of both versions. Out: a permutation of the K centroids per level, and the share of items
that keep their codes. Spark counts the items. The driver receives at most one row per pair of codes that occurs.

Source: optimal assignment, ``scipy.optimize.linear_sum_assignment``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from scipy.optimize import linear_sum_assignment

from qarm_features.codebooks.errors import matrix


def match_codes(new: np.ndarray, old: np.ndarray, weights: np.ndarray, codebook_size: int) -> np.ndarray:
    """Give each new centroid the label of an old one, so that the total weight of the chosen pairs is the largest.

    A pair with more weight than all other pairs of its new and its old centroid together is part of a best assignment,
    because an exchange for it never lowers the total. Such pairs are chosen first. Only the others become a dense
    matrix. After a warm start there are few of them, even for K = 65,536.

    Args:
        new: New centroid (P,) of each pair; each pair occurs at most once.
        old: Old label (P,) of each pair.
        weights: Weight (P,) of each pair, above 0.
        codebook_size: Number of centroids K.

    Returns:
        Label (K,) int32 of each new centroid, a permutation.

    Example:
        >>> match_codes(np.array([0, 0, 1]), np.array([1, 0, 1]), np.array([9.0, 1.0, 5.0]), codebook_size=2).tolist()
        [1, 0]
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
    """Choose the labels of new centroids, level by level.

    A level counts the items that keep all codes before it. The semantic IDs of the other items change in any case, so these
    only decide between equal choices.

    Args:
        codes: Rows of ``old_codes`` and ``rq_codes`` (at least L) of the items that have both.
        level_sizes: Number of centroids K of each of L levels.

    Returns:
        Label (K,) int32 of each new centroid, a permutation, for each level.
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
    """Find the code that most items of each old code have now, and the share of items that kept their codes.

    Args:
        codes: Rows of ``old_codes`` and ``rq_codes`` (L) of the items that have both.
        num_levels: Number of levels L.
        codebook_size: Number of codes K of the largest level.

    Returns:
        New code (L, K) int32 of each old code, the lowest among equals, -1 for an old code without items; and the shares of
        ``kept_shares``.
    """
    both = F.explode(F.transform(F.sequence(F.lit(0), F.lit(num_levels - 1)), _code_pair))
    pairs = (
        codes.select(both.alias("pair")).groupBy("pair.level", "pair.old", "pair.new").agg(F.count("*").alias("items"))
    )
    most = pairs.groupBy("level", "old").agg(F.max_by("new", F.struct("items", -F.col("new"))).alias("new"))
    new_code = np.full((num_levels, codebook_size), -1, np.int32)
    for row in most.collect():  # at most L x K rows
        new_code[row["level"], row["old"]] = row["new"]
    return new_code, kept_shares(codes, num_levels=num_levels)


def kept_shares(codes: DataFrame, *, num_levels: int) -> dict[str, Any]:
    """Count the items whose codes have not changed.

    Args:
        codes: Rows of ``old_codes`` and ``rq_codes`` (L) of the items that have both.
        num_levels: Number of levels L.

    Returns:
        ``items`` (number of items), ``levels`` (L shares of items with an unchanged code) and ``semantic_ids`` (share of
        items with an unchanged ID).
    """
    levels = [F.get("old_codes", F.lit(level)) == F.get("rq_codes", F.lit(level)) for level in range(num_levels)]
    (same,) = codes.agg(
        F.count("*").alias("items"),
        F.count_if(F.col("old_codes") == F.col("rq_codes")).alias("whole"),
        *[F.count_if(is_same).alias(f"level_{level}") for level, is_same in enumerate(levels)],
    ).collect()
    items = max(same["items"], 1)
    shares = [same[f"level_{level}"] / items for level in range(num_levels)]
    return {"items": same["items"], "levels": shares, "semantic_ids": same["whole"] / items}


def _code_pair(level: Column) -> Column:
    """Return a level with its old and its new code as a struct."""
    old, new = F.get("old_codes", level), F.get("rq_codes", level)
    return F.struct(level.alias("level"), old.alias("old"), new.alias("new"))


def _count_pairs(batches: Iterator[pa.RecordBatch], level: int, labels: list[np.ndarray]) -> Iterator[pa.RecordBatch]:
    """Count items by their new and old code of a level, all of them and those that keep all codes before."""
    for batch in batches:
        if batch.num_rows == 0:
            continue
        old, new = (matrix(batch[name], np.int32) for name in ("old_codes", "rq_codes"))
        kept = np.ones(len(old), bool)
        for before, level_labels in enumerate(labels):
            kept &= level_labels[new[:, before]] == old[:, before]
        both = np.stack([new[:, level], old[:, level]], axis=1)
        pairs, place = np.unique(both, axis=0, return_inverse=True)
        items = np.bincount(place.ravel(), minlength=len(pairs))
        kept_items = np.bincount(place.ravel()[kept], minlength=len(pairs))
        columns = [pairs[:, 0], pairs[:, 1], items.astype(np.int64), kept_items.astype(np.int64)]
        yield pa.RecordBatch.from_arrays([pa.array(column) for column in columns], ["new", "old", "items", "kept"])
