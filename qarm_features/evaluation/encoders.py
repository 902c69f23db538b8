"""Encoder versions are compared by HitRate@k on co-clicks that are later than all of their training pairs.

In: ``interactions``, ``item_pairs``, and ``item_embeddings`` of some encoder versions. Out: figures by encoder version and by
slice of the target items. The rank of a target is exact over the whole catalog: Spark counts the items that are nearer to
the trigger. Only a bounded number of pairs reaches the driver.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.evaluation.co_click_pairs import Period, bought_together, future_co_clicks
from qarm_features.ranking.data.popularity import FEW, popularity_limits
from qarm_features.storage.moments import count_ties

_BLOCK = 4096  # number of items whose scores with all pairs are in memory at once
SLICES = ("all", "head", "torso", "tail", "new", "few", "few triggers", "unseen pairs")


class TargetRanks(NamedTuple):
    """Ranks of the targets of P pairs among all items, from 0 for the item nearest to the trigger.

    Attributes:
        pair: (P,) int64 numbers of the pairs.
        rank: (P,) int64 ranks among all items but the trigger.
        rank_among_unknown: (P,) int64 ranks among all items but the trigger and the targets of its training pairs.
    """

    pair: np.ndarray
    rank: np.ndarray
    rank_among_unknown: np.ndarray


def evaluate(
    interactions: DataFrame,
    known: DataFrame,
    embeddings: DataFrame,
    *,
    versions: Sequence[int],
    period: Period,
    k: int,
    max_pairs: int,
    seed: int,
) -> dict[str, Any]:
    """Evaluate encoder versions on the same co-clicks.

    Args:
        interactions: Rows of ``interactions``.
        known: Rows of ``item_pairs``, all from before the period.
        embeddings: Rows of ``item_embeddings``.
        versions: Encoder versions, at least one.
        period: Period of the co-clicks.
        k: Number of nearest items, at least 1.
        max_pairs: Largest number of co-clicks, and of pairs that were bought together. More are sampled.
        seed: Seed for sampling co-clicks.

    Returns:
        The figures of ``summarize``, and

        - ``co_clicks``, the number of sampled co-clicks with and without embeddings,
        - ``since`` and ``period``, the first moment as text, and the reason for it,
        - ``ties``, a dict of ``consecutive`` and ``tied``, see ``moments.Ties``, of the positives of the period,
        - ``bought_together``, a dict of ``pairs`` and ``hit_rate`` (by encoder version) of items bought together.

    Raises:
        ValueError: There is no co-click in the period.
    """
    since, by_version = period.since, {v: embeddings.where(F.col("encoder_version") == v) for v in versions}
    ties = count_ties(interactions.where(F.col("label") == 1), since=since)
    pairs = future_co_clicks(interactions, since=since, max_pairs=max_pairs, seed=seed).persist()
    described = describe_pairs(pairs, popularity_slices(interactions, until=since), known)
    if described.empty:
        raise ValueError(
            f"interactions has no co-click since {since:%Y-%m-%d %H:%M} ({period.words}): {ties.words('positives')}. "
            "A co-click is two positives of one user at different moments. Run: qarm mine-item-pairs --until an earlier time"
        )
    ranks = {version: target_ranks(pairs, known, rows) for version, rows in by_version.items()}
    together = bought_together(interactions, since=since, max_pairs=max_pairs, seed=seed).persist()
    ranks_together = {version: target_ranks(together, known, rows) for version, rows in by_version.items()}
    num_items = max(rows.count() for rows in by_version.values())
    pairs.unpersist()
    together.unpersist()
    return summarize(ranks, described, num_items=num_items, k=k) | {
        "co_clicks": len(described),
        "since": since.isoformat(),
        "period": period.words,
        "ties": ties._asdict(),
        "bought_together": _together(ranks_together, k=k),
    }


def popularity_slices(interactions: DataFrame, *, until: datetime) -> DataFrame:
    """Put every item of the log before a moment into head, torso or tail.

    ``popularity_limits`` says what these are.

    Args:
        interactions: Rows of ``interactions``.
        until: Moment before which impressions are counted.

    Returns:
        ``item_id``, ``slice``, ``positives`` (bigint). New items, which have no impression, have no row.
    """
    past = interactions.where(F.col("event_timestamp") < F.lit(until))
    counts = past.groupBy("item_id").agg(F.count("*").alias("impressions"), F.sum("label").alias("positives"))
    by_count = counts.groupBy("impressions").agg(F.count("*").alias("items"))
    # There is one row per distinct count, at most the square root of twice the impressions.
    histogram: pd.DataFrame = by_count.toPandas()
    head_from, torso_from = popularity_limits(histogram["impressions"].to_numpy(), histogram["items"].to_numpy())
    named = F.when(F.col("impressions") >= head_from, "head").when(F.col("impressions") >= torso_from, "torso")
    return counts.select("item_id", named.otherwise("tail").alias("slice"), "positives")


def target_ranks(pairs: DataFrame, known: DataFrame, embeddings: DataFrame) -> TargetRanks:
    """Rank the targets of pairs among all items.

    Args:
        pairs: Pairs from ``future_co_clicks``. Pairs with an item without an embedding are left out.
        known: ``trigger_item_id``, ``target_item_id`` of training pairs.
        embeddings: ``item_id``, ``embedding`` (D) of one encoder version, unit L2 norm.
    """
    vectors = embeddings.select("item_id", "embedding")
    joined = pairs
    for side in ("trigger", "target"):
        side_vectors = vectors.select(F.col("item_id").alias(f"{side}_item_id"), F.col("embedding").alias(side))
        joined = joined.join(side_vectors, on=f"{side}_item_id", how="inner")
    ends: pd.DataFrame = joined.orderBy("pair").toPandas()  # at most max_pairs rows
    if ends.empty:
        return TargetRanks(*(np.zeros(0, np.int64) for _ in TargetRanks._fields))
    triggers = np.stack(ends["trigger"]).astype(np.float32)
    least = np.einsum("pd,pd->p", triggers, np.stack(ends["target"]).astype(np.float32))
    partners = known.join(pairs.select("trigger_item_id", "pair"), on="trigger_item_id", how="inner")
    partners = partners.select("pair", F.col("target_item_id").alias("item_id")).distinct()
    partners = partners.groupBy("item_id").agg(F.collect_list("pair").alias("known_of"))
    rows = vectors.join(partners, on="item_id", how="left")
    shared = embeddings.sparkSession.sparkContext.broadcast((ends.drop(columns=["trigger", "target"]), triggers, least))

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        all_pairs, *arrays = shared.value
        nearer = np.zeros((2, len(all_pairs)), np.int64)
        for batch in batches:
            for start in range(0, batch.num_rows, _BLOCK):
                nearer += _count_nearer(batch.slice(start, _BLOCK), all_pairs, *arrays)
        columns = [pa.array(all_pairs["pair"]), *map(pa.array, nearer)]
        yield pa.RecordBatch.from_arrays(columns, ["pair", "nearer", "nearer_unknown"])

    counted = rows.mapInArrow(count, "pair bigint, nearer bigint, nearer_unknown bigint")
    sums = counted.groupBy("pair").agg(F.sum("nearer"), F.sum("nearer_unknown")).orderBy("pair")
    total: pd.DataFrame = sums.toPandas()
    shared.unpersist()
    return TargetRanks(*(total[name].to_numpy() for name in total.columns))


def hit_rates(ranks: TargetRanks, pairs: pd.DataFrame, *, k: int) -> dict[str, float | None]:
    """Compute HitRate@k by slice.

    Args:
        ranks: Ranks of some of the pairs.
        pairs: ``pair``, ``slice``, ``positives`` of the target, ``trigger_positives``, and ``seen``, which is true for
            training pairs.
        k: Number of nearest items, at least 1.

    Returns:
        A share in [0, 1] for each slice, None where the slice is empty. ``unseen pairs`` leaves training pairs out of the
        pairs, and the targets of the trigger's training pairs out of its nearest items.
    """
    ranked = pairs.set_index("pair").loc[ranks.pair]
    hit = pd.Series(ranks.rank < k, index=ranked.index)
    masks = slice_masks(ranked)
    found = {name: hit[mask].mean() for name, mask in masks.items() if name != "unseen pairs"}
    unseen = pd.Series(ranks.rank_among_unknown < k, index=ranked.index)[masks["unseen pairs"]]
    found["unseen pairs"] = unseen.mean()
    return {name: None if np.isnan(rate) else float(rate) for name, rate in found.items()}


def slice_masks(pairs: pd.DataFrame) -> dict[str, pd.Series]:
    """Return a boolean mask of pairs for each of ``SLICES``.

    A pair belongs to a slice by its target item, except that it belongs to ``few triggers`` by its trigger item.

    Args:
        pairs: Pairs from ``describe_pairs``.
    """
    by_name = {name: pairs["slice"] == name for name in ("head", "torso", "tail", "new")}
    few = {"few": pairs["positives"] <= FEW, "few triggers": pairs["trigger_positives"] <= FEW}
    return {"all": pairs["slice"].notna(), **by_name, **few, "unseen pairs": ~pairs["seen"]}


def describe_pairs(pairs: DataFrame, slices: DataFrame, known: DataFrame) -> pd.DataFrame:
    """Describe pairs by their slices, on the driver.

    Args:
        pairs: Pairs from ``future_co_clicks``.
        slices: Slices from ``popularity_slices``.
        known: ``trigger_item_id``, ``target_item_id`` of training pairs.

    Returns:
        ``pair``, ``slice`` and ``positives`` of the target, ``trigger_positives``, and ``seen``, which is true for training
        pairs.
    """
    targets = slices.withColumnRenamed("item_id", "target_item_id")
    triggers = slices.select(F.col("item_id").alias("trigger_item_id"), F.col("positives").alias("trigger_positives"))
    seen = known.select("trigger_item_id", "target_item_id").distinct().withColumn("seen", F.lit(True))
    rows = pairs.join(targets, on="target_item_id", how="left").join(triggers, on="trigger_item_id", how="left")
    rows = rows.join(seen, on=["trigger_item_id", "target_item_id"], how="left").select(
        "pair",
        F.coalesce("slice", F.lit("new")).alias("slice"),
        F.coalesce("positives", F.lit(0)).alias("positives"),
        F.coalesce("trigger_positives", F.lit(0)).alias("trigger_positives"),
        F.coalesce("seen", F.lit(False)).alias("seen"),
    )
    return rows.orderBy("pair").toPandas()


def summarize(ranks: dict[int, TargetRanks], pairs: pd.DataFrame, *, num_items: int, k: int) -> dict[str, Any]:
    """Summarize ranks for the terminal and the report, on the pairs that all versions have ranks for.

    Args:
        ranks: Ranks by encoder version.
        pairs: Pairs from ``describe_pairs``.
        num_items: Number of items with an embedding.
        k: Number of nearest items, at least 1.

    Returns:
        ``k``, ``pairs`` (number of pairs by slice), ``chance`` and ``hit_rate`` (HitRate@k by encoder version and slice).
    """
    in_all = set.intersection(*[set(version_ranks.pair.tolist()) for version_ranks in ranks.values()])
    pairs = pairs[pairs["pair"].isin(in_all)]
    common = {}
    for version, version_ranks in ranks.items():
        mask = np.isin(version_ranks.pair, list(in_all))
        common[version] = TargetRanks(*(values[mask] for values in version_ranks))
    return {
        "k": k,
        "pairs": {name: int(mask.sum()) for name, mask in slice_masks(pairs).items()},
        "chance": min(1.0, k / max(num_items - 1, 1)),
        "hit_rate": {str(version): hit_rates(version_ranks, pairs, k=k) for version, version_ranks in common.items()},
    }


def _together(ranks: dict[int, TargetRanks], *, k: int) -> dict[str, Any]:
    """Return HitRate@k of items bought together by encoder version, on the pairs that all versions have ranks for."""
    in_all = set.intersection(*[set(version_ranks.pair.tolist()) for version_ranks in ranks.values()])
    rates = {}
    for version, version_ranks in ranks.items():
        hits = version_ranks.rank[np.isin(version_ranks.pair, list(in_all))] < k
        rates[str(version)] = float(hits.mean()) if len(hits) else None
    return {"pairs": len(in_all), "hit_rate": rates}


def _count_nearer(batch: pa.RecordBatch, pairs: pd.DataFrame, triggers: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Count the items of a batch that are at least as near to the trigger as the target.

    Args:
        batch: ``item_id``, ``embedding`` (D) and ``known_of``, the numbers of pairs whose trigger has the item as the target
            of a training pair.
        pairs: The P pairs: ``pair``, ``trigger_item_id``, ``target_item_id``.
        triggers: (P, D) embeddings of the triggers.
        least: (P,) inner products of triggers and targets.

    Returns:
        (2, P) counts: of all items, and without the targets of training pairs.
    """
    ids = pd.Index(batch["item_id"].to_pandas())
    embeddings = batch["embedding"].flatten().to_numpy().reshape(batch.num_rows, -1)
    near = embeddings @ triggers.T >= least
    for side in ("trigger_item_id", "target_item_id"):  # neither counts as nearer than the target
        row = ids.get_indexer(pairs[side])
        here = np.flatnonzero(row >= 0)
        near[row[here], here] = False
    both = np.stack([near.sum(0), near.sum(0)])
    pair_index = pd.Index(pairs["pair"])
    known = batch["known_of"]
    for row in np.flatnonzero(known.is_valid()):
        columns = pair_index.get_indexer(known[int(row)].values.to_pandas())
        columns = columns[columns >= 0]
        both[1, columns] -= near[row, columns]
    return both
