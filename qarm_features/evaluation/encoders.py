"""Encoder versions are compared by HitRate@k on co-clicks that are later than all of their training pairs.

In: ``interactions``, ``item_pairs``, and ``item_embeddings`` of some encoder versions. Out: figures by encoder version and by
slice of the target items. The rank of a target is exact over the whole catalog: Spark counts the items that are nearer to
the trigger. Only a bounded number of pairs reaches the driver.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

HEAD, TORSO = 0.25, 0.75  # shares of impressions that end the head and the torso
FEW = 5
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
    since: datetime,
    k: int,
    max_pairs: int,
    seed: int,
) -> dict[str, Any]:
    """Evaluate encoder versions on the same co-clicks.

    Args:
        interactions: Rows of ``interactions``.
        known: Rows of ``item_pairs``, all from before ``since``.
        embeddings: Rows of ``item_embeddings``.
        versions: Encoder versions, at least one.
        since: First moment of the co-clicks.
        k: Number of nearest items, at least 1.
        max_pairs: Largest number of co-clicks. More are sampled.
        seed: Seed for sampling co-clicks.

    Returns:
        The figures of ``summarize``, and ``co_clicks``, the number of sampled co-clicks with and without embeddings.

    Raises:
        ValueError: There is no co-click since that moment.
    """
    pairs = future_co_clicks(interactions, since=since, max_pairs=max_pairs, seed=seed).persist()
    described = describe_pairs(pairs, popularity_slices(interactions, until=since), known)
    if described.empty:
        raise ValueError(
            f"interactions has no co-click since {since:%Y-%m-%d %H:%M}, the time of the last interaction that item pairs "
            "were mined from. Run: qarm mine-item-pairs --until an earlier time"
        )
    by_version = {version: embeddings.where(F.col("encoder_version") == version) for version in versions}
    ranks = {version: target_ranks(pairs, known, rows) for version, rows in by_version.items()}
    num_items = max(rows.count() for rows in by_version.values())
    pairs.unpersist()
    return summarize(ranks, described, num_items=num_items, k=k) | {"co_clicks": len(described)}


def after_all_pairs(item_pairs: DataFrame) -> datetime:
    """Return the moment just after the latest item pair, or 1970-01-01 if there are no pairs.

    No encoder was aligned on co-clicks from this moment on.

    Args:
        item_pairs: Rows of ``item_pairs``.
    """
    row = item_pairs.agg(F.unix_micros(F.max("event_timestamp")).alias("last")).first()
    last = None if row is None else row["last"]
    return datetime.fromtimestamp(0 if last is None else (last + 1) / 1e6, UTC)


def future_co_clicks(interactions: DataFrame, *, since: datetime, max_pairs: int, seed: int) -> DataFrame:
    """Pair every positive from ``since`` on with the positive of the same user just before it.

    ::

        user_id  item_id  event_timestamp      pair  trigger_item_id  target_item_id
        7        3        before since     ->  0     3                9
        7        9        since

    Args:
        interactions: Rows of ``interactions``.
        since: First moment of the target.
        max_pairs: Largest number of pairs. More are sampled by hash.
        seed: Seed of the hash.

    Returns:
        ``pair`` (bigint from 0), ``trigger_item_id``, ``target_item_id``. The two items of a pair always differ.
    """
    in_time = Window.partitionBy("user_id").orderBy("event_timestamp", "item_id")
    rows = interactions.where(F.col("label") == 1).withColumn("trigger_item_id", F.lag("item_id").over(in_time))
    rows = rows.where((F.col("event_timestamp") >= F.lit(since)) & (F.col("trigger_item_id") != F.col("item_id")))
    draw = F.xxhash64(F.lit(seed), "user_id", "item_id", "event_timestamp")
    sampled = rows.orderBy(draw, "user_id", "item_id").limit(max_pairs)
    number = (
        F.row_number().over(Window.orderBy(draw, "user_id", "item_id")) - 1
    )  # in one task, of at most max_pairs rows
    return sampled.select(
        number.cast("bigint").alias("pair"), "trigger_item_id", F.col("item_id").alias("target_item_id")
    )


def popularity_slices(interactions: DataFrame, *, until: datetime) -> DataFrame:
    """Put every item of the log before a moment into head, torso or tail.

    With items sorted by popularity, the head holds the first 25% of impressions, the torso the next 50% and the tail the
    last 25%.

    Args:
        interactions: Rows of ``interactions``.
        until: Moment before which impressions are counted.

    Returns:
        ``item_id``, ``slice``, ``positives`` (bigint). New items, which have no impression, have no row.
    """
    past = interactions.where(F.col("event_timestamp") < F.lit(until))
    counts = past.groupBy("item_id").agg(F.count("*").alias("impressions"), F.sum("label").alias("positives"))
    by_count = counts.groupBy("impressions").agg(F.count("*").alias("items")).orderBy(F.desc("impressions"))
    # There is one row per distinct count, at most the square root of twice the impressions.
    histogram: pd.DataFrame = by_count.toPandas()
    share = (histogram["impressions"] * histogram["items"]).cumsum() / max((histogram.prod(axis=1)).sum(), 1)
    head_from, torso_from = (_smallest_count(histogram["impressions"], share, end) for end in (HEAD, TORSO))
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


def _smallest_count(counts: pd.Series, share: pd.Series, end: float) -> int:
    """Return the smallest count of impressions of a slice that ends at a cumulative share, 0 without items."""
    within = counts[share.shift(fill_value=0.0) < end]
    return int(within.min()) if len(within) else 0


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
