"""Rank the targets of pairs among all items by their nearness to the trigger, exactly, by one pass over the embeddings.

In: pairs of a bounded number, embeddings of all items. Out: ranks on the driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_BLOCK = 4096  # number of items whose scores with all pairs are in memory at once
_COUNTS = ("nearer", "nearer_unknown", "nearer_matched", "matched")


class TargetRanks(NamedTuple):
    """Ranks of the targets of P pairs among all items, from 0 for the item nearest to the trigger.

    Attributes:
        pair: (P,) int64 numbers of the pairs.
        rank: (P,) int64 ranks among all items but the trigger.
        rank_among_unknown: (P,) int64 ranks among all items but the trigger and the targets of its training pairs.
        rank_among_matched: (P,) int64 ranks among the items that are as popular as the target; 0 without such items.
        matched: (P,) int64 numbers of these items.
    """

    pair: np.ndarray
    rank: np.ndarray
    rank_among_unknown: np.ndarray
    rank_among_matched: np.ndarray
    matched: np.ndarray

    def of(self, pairs: np.ndarray) -> TargetRanks:
        """Return the ranks of some pairs, in their order here.

        Args:
            pairs: Numbers of pairs.
        """
        kept = np.isin(self.pair, pairs)
        return TargetRanks(*(values[kept] for values in self))


def target_ranks(
    pairs: DataFrame,
    known: DataFrame,
    embeddings: DataFrame,
    *,
    matched: DataFrame | None = None,
    popularity_weight: np.ndarray | None = None,
) -> TargetRanks:
    """Rank the targets of pairs among all items.

    Args:
        pairs: ``pair``, ``trigger_item_id``, ``target_item_id``, of bounded number. Pairs with an item without an embedding
            are left out.
        known: ``trigger_item_id``, ``target_item_id`` of training pairs.
        embeddings: ``item_id``, ``embedding`` (D) of one encoder version, unit L2 norm.
        matched: ``pair``, ``item_id``: items among which the target of the pair is ranked as well. None ranks among none.
        popularity_weight: Weights by number of pair. The last number of an embedding is then no part of it, but the
            popularity of the item (``popularity.with_popularity``), which is added to the cosine by this weight.
    """
    vectors = embeddings.select("item_id", "embedding")
    joined = pairs.select("pair", "trigger_item_id", "target_item_id")
    for side in ("trigger", "target"):
        side_vectors = vectors.select(F.col("item_id").alias(f"{side}_item_id"), F.col("embedding").alias(side))
        joined = joined.join(side_vectors, on=f"{side}_item_id", how="inner")
    ends: pd.DataFrame = joined.orderBy("pair").toPandas()  # at most max_pairs rows
    if ends.empty:
        return TargetRanks(*(np.zeros(0, np.int64) for _ in TargetRanks._fields))
    triggers = np.stack(ends["trigger"]).astype(np.float32)
    if popularity_weight is not None:
        triggers[:, -1] = popularity_weight[ends["pair"]]
    least = np.einsum("pd,pd->p", triggers, np.stack(ends["target"]).astype(np.float32))
    partners = known.join(pairs.select("trigger_item_id", "pair"), on="trigger_item_id", how="inner")
    partners = partners.select("pair", F.col("target_item_id").alias("item_id")).distinct()
    rows = vectors.join(_lists(partners, "known_of"), on="item_id", how="left")
    none = F.lit(None).cast("array<bigint>").alias("matched_of")
    rows = (
        rows.select("*", none)
        if matched is None
        else rows.join(_lists(matched, "matched_of"), on="item_id", how="left")
    )
    shared = embeddings.sparkSession.sparkContext.broadcast((ends.drop(columns=["trigger", "target"]), triggers, least))

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        all_pairs, *arrays = shared.value
        nearer = np.zeros((len(_COUNTS), len(all_pairs)), np.int64)
        for batch in batches:
            for start in range(0, batch.num_rows, _BLOCK):
                nearer += _count_nearer(batch.slice(start, _BLOCK), all_pairs, *arrays)
        columns = [pa.array(all_pairs["pair"]), *map(pa.array, nearer)]
        yield pa.RecordBatch.from_arrays(columns, ["pair", *_COUNTS])

    counted = rows.mapInArrow(count, ", ".join(f"{name} bigint" for name in ("pair", *_COUNTS)))
    total: pd.DataFrame = counted.groupBy("pair").agg(*[F.sum(name) for name in _COUNTS]).orderBy("pair").toPandas()
    shared.unpersist()
    return TargetRanks(*(total[name].to_numpy() for name in total.columns))


def _lists(items_of_pairs: DataFrame, name: str) -> DataFrame:
    """Gather the numbers of the pairs of each item."""
    return items_of_pairs.groupBy("item_id").agg(F.collect_list("pair").alias(name))


def _count_nearer(batch: pa.RecordBatch, pairs: pd.DataFrame, triggers: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Count the items of a batch that are at least as near to the trigger as the target.

    Args:
        batch: ``item_id``, ``embedding`` (D), and the numbers of pairs whose trigger has the item as the target of a
            training pair (``known_of``), and of pairs whose target is as popular as the item (``matched_of``).
        pairs: The P pairs: ``pair``, ``trigger_item_id``, ``target_item_id``.
        triggers: (P, D) embeddings of the triggers.
        least: (P,) inner products of triggers and targets.

    Returns:
        (4, P) counts: of all items, without the targets of training pairs, of matched items, and how many those are.
    """
    ids = pd.Index(batch["item_id"].to_pandas())
    embeddings = batch["embedding"].flatten().to_numpy().reshape(batch.num_rows, -1)
    near = embeddings @ triggers.T >= least
    for side in ("trigger_item_id", "target_item_id"):  # neither counts as nearer than the target
        row = ids.get_indexer(pairs[side])
        here = np.flatnonzero(row >= 0)
        near[row[here], here] = False
    nothing = np.zeros(near.shape[1], np.int64)
    counts = np.stack([near.sum(0), near.sum(0), nothing, nothing])
    pair_index = pd.Index(pairs["pair"])
    for row, columns in _columns_of(batch["known_of"], pair_index):
        counts[1, columns] -= near[row, columns]
    for row, columns in _columns_of(batch["matched_of"], pair_index):
        counts[2, columns] += near[row, columns]
        counts[3, columns] += 1
    return counts


def _columns_of(lists: pa.Array, pair_index: pd.Index) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each row that has a list of pairs, with the columns of those pairs."""
    for row in np.flatnonzero(lists.is_valid()):
        columns = pair_index.get_indexer(lists[int(row)].values.to_pandas())
        yield int(row), columns[columns >= 0]
