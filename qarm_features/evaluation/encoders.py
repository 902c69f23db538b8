"""How often what users click next is near by: HitRate@k of co-clicks that lie after all that the encoder learnt from.

In: ``interactions``, ``item_pairs``, ``item_embeddings`` of some encoder versions. Out: figures by encoder version and by
slice of the target items. The rank of a target is exact, over the whole catalog: Spark counts the items that are nearer to
the trigger; only the pairs looked at, of which there is a most, reach the driver.
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
_BLOCK = 4096  # items whose scores against all pairs are held at once
SLICES = ("all", "head", "torso", "tail", "new", "few", "few triggers", "unseen pairs")


class TargetRanks(NamedTuple):
    """Ranks of the targets of P pairs among all items by nearness to the trigger, 0 the nearest.

    Attributes:
        pair: (P,) int64, the pair's number.
        rank: (P,) int64, over all items but the trigger.
        rank_among_unknown: (P,) int64, the trigger's training pairs left out as well.
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
    """Evaluates encoder versions on the same co-clicks.

    Args:
        interactions: Rows of ``interactions``.
        known: Rows of ``item_pairs``, all from before ``since``.
        embeddings: Rows of ``item_embeddings``.
        versions: Encoder versions, at least one.
        since: The first moment of the co-clicks.
        k: Nearest items looked at.
        max_pairs: Most co-clicks looked at, drawn by ``seed``.

    Returns:
        What ``summarize`` returns, and ``co_clicks``, the number of them before those without an embedding are left out.

    Raises:
        ValueError: There is no co-click since then.
    """
    pairs = future_co_clicks(interactions, since=since, max_pairs=max_pairs, seed=seed).persist()
    described = describe_pairs(pairs, popularity_slices(interactions, until=since), known)
    if described.empty:
        raise ValueError(
            f"interactions has no co-click since {since:%Y-%m-%d %H:%M}, the last that item pairs were mined from; must "
            "have some. Run: qarm mine-item-pairs --until an earlier time"
        )
    by_version = {version: embeddings.where(F.col("encoder_version") == version) for version in versions}
    ranks = {version: target_ranks(pairs, known, rows) for version, rows in by_version.items()}
    num_items = max(rows.count() for rows in by_version.values())
    pairs.unpersist()
    return summarize(ranks, described, num_items=num_items, k=k) | {"co_clicks": len(described)}


def after_all_pairs(item_pairs: DataFrame) -> datetime:
    """Returns the moment after the latest item pair, the start of time where there is none: from then on co-clicks are
    news to every encoder."""
    last = item_pairs.agg(F.unix_micros(F.max("event_timestamp"))).first()[0]
    return datetime.fromtimestamp(0 if last is None else (last + 1) / 1e6, UTC)


def future_co_clicks(interactions: DataFrame, *, since: datetime, max_pairs: int, seed: int) -> DataFrame:
    """Pairs every positive from ``since`` on with the positive of the same user just before it. ::

        user_id  item_id  event_timestamp      pair  trigger_item_id  target_item_id
        7        3        before since     ->  0     3                9
        7        9        since

    Returns:
        ``pair`` (bigint from 0), ``trigger_item_id``, ``target_item_id``: at most ``max_pairs``, drawn by hash; a pair of
        one item with itself is none.
    """
    in_time = Window.partitionBy("user_id").orderBy("event_timestamp", "item_id")
    rows = interactions.where(F.col("label") == 1).withColumn("trigger_item_id", F.lag("item_id").over(in_time))
    rows = rows.where((F.col("event_timestamp") >= F.lit(since)) & (F.col("trigger_item_id") != F.col("item_id")))
    draw = F.xxhash64(F.lit(seed), "user_id", "item_id", "event_timestamp")
    drawn = rows.orderBy(draw, "user_id", "item_id").limit(max_pairs)
    number = F.row_number().over(Window.orderBy(draw, "user_id", "item_id")) - 1  # of at most max_pairs rows
    return drawn.select(
        number.cast("bigint").alias("pair"), "trigger_item_id", F.col("item_id").alias("target_item_id")
    )


def popularity_slices(interactions: DataFrame, *, until: datetime) -> DataFrame:
    """Puts every item of the log before ``until`` into head, torso or tail: the items that make up the first 25%, the next
    50% and the last 25% of impressions.

    Returns:
        ``item_id``, ``slice``, ``positives`` (bigint); items without an impression have no row: they are new.
    """
    past = interactions.where(F.col("event_timestamp") < F.lit(until))
    counts = past.groupBy("item_id").agg(F.count("*").alias("impressions"), F.sum("label").alias("positives"))
    of_count = counts.groupBy("impressions").agg(F.count("*").alias("items")).orderBy(F.desc("impressions"))
    histogram = of_count.toPandas()  # one row per distinct count: at most the root of twice the impressions
    share = (histogram["impressions"] * histogram["items"]).cumsum() / max((histogram.prod(axis=1)).sum(), 1)
    head_from, torso_from = (_smallest_count(histogram["impressions"], share, end) for end in (HEAD, TORSO))
    named = F.when(F.col("impressions") >= head_from, "head").when(F.col("impressions") >= torso_from, "torso")
    return counts.select("item_id", named.otherwise("tail").alias("slice"), "positives")


def target_ranks(pairs: DataFrame, known: DataFrame, embeddings: DataFrame) -> TargetRanks:
    """Ranks the targets of pairs.

    Args:
        pairs: As ``future_co_clicks`` returns them; those of an item without embedding are left out.
        known: ``trigger_item_id``, ``target_item_id`` of training pairs.
        embeddings: ``item_id``, ``embedding`` (D) unit L2 norm, of one encoder version.
    """
    vectors = embeddings.select("item_id", "embedding")
    ends = pairs
    for side in ("trigger", "target"):
        of_side = vectors.select(F.col("item_id").alias(f"{side}_item_id"), F.col("embedding").alias(side))
        ends = ends.join(of_side, on=f"{side}_item_id", how="inner")
    ends = ends.orderBy("pair").toPandas()  # at most max_pairs rows
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
        of_pairs, *arrays = shared.value
        nearer = np.zeros((2, len(of_pairs)), np.int64)
        for batch in batches:
            for start in range(0, batch.num_rows, _BLOCK):
                nearer += _count_nearer(batch.slice(start, _BLOCK), of_pairs, *arrays)
        columns = [pa.array(of_pairs["pair"]), *map(pa.array, nearer)]
        yield pa.RecordBatch.from_arrays(columns, ["pair", "nearer", "nearer_unknown"])

    counted = rows.mapInArrow(count, "pair bigint, nearer bigint, nearer_unknown bigint")
    total = counted.groupBy("pair").agg(F.sum("nearer"), F.sum("nearer_unknown")).orderBy("pair").toPandas()
    shared.unpersist()
    return TargetRanks(*(total[name].to_numpy() for name in total.columns))


def hit_rates(ranks: TargetRanks, pairs: pd.DataFrame, *, k: int) -> dict[str, float | None]:
    """Computes HitRate@k by slice.

    Args:
        ranks: Of some pairs.
        pairs: ``pair``, ``slice``, ``positives`` of the target, ``trigger_positives``, ``seen`` (it is a training pair).
        k: Nearest items looked at.

    Returns:
        By slice a share in [0, 1], None where the slice is empty. ``unseen pairs`` leaves the trigger's training pairs
        out of pairs and of nearest items alike.
    """
    of = pairs.set_index("pair").loc[ranks.pair]
    hit = pd.Series(ranks.rank < k, index=of.index)
    masks = slice_masks(of)
    found = {name: hit[mask].mean() for name, mask in masks.items() if name != "unseen pairs"}
    unseen = pd.Series(ranks.rank_among_unknown < k, index=of.index)[masks["unseen pairs"]]
    found["unseen pairs"] = unseen.mean()
    return {name: None if np.isnan(rate) else float(rate) for name, rate in found.items()}


def slice_masks(pairs: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns which pairs belong to each of ``SLICES``: by their target, but ``few triggers`` by the item asked about."""
    by_name = {name: pairs["slice"] == name for name in ("head", "torso", "tail", "new")}
    few = {"few": pairs["positives"] <= FEW, "few triggers": pairs["trigger_positives"] <= FEW}
    return {"all": pairs["slice"].notna(), **by_name, **few, "unseen pairs": ~pairs["seen"]}


def describe_pairs(pairs: DataFrame, slices: DataFrame, known: DataFrame) -> pd.DataFrame:
    """Returns ``pair``, ``slice`` and ``positives`` of the target, ``trigger_positives``, ``seen`` of max_pairs pairs."""
    of_target = slices.withColumnRenamed("item_id", "target_item_id")
    of_trigger = slices.select(F.col("item_id").alias("trigger_item_id"), F.col("positives").alias("trigger_positives"))
    seen = known.select("trigger_item_id", "target_item_id").distinct().withColumn("seen", F.lit(True))
    rows = pairs.join(of_target, on="target_item_id", how="left").join(of_trigger, on="trigger_item_id", how="left")
    rows = rows.join(seen, on=["trigger_item_id", "target_item_id"], how="left").select(
        "pair",
        F.coalesce("slice", F.lit("new")).alias("slice"),
        F.coalesce("positives", F.lit(0)).alias("positives"),
        F.coalesce("trigger_positives", F.lit(0)).alias("trigger_positives"),
        F.coalesce("seen", F.lit(False)).alias("seen"),
    )
    return rows.orderBy("pair").toPandas()


def summarize(ranks: dict[int, TargetRanks], pairs: pd.DataFrame, *, num_items: int, k: int) -> dict[str, Any]:
    """Returns the figures that a person and the report are shown: HitRate@k by encoder version and slice, and chance."""
    everywhere = set.intersection(*[set(of.pair.tolist()) for of in ranks.values()])
    pairs = pairs[pairs["pair"].isin(everywhere)]
    common = {v: TargetRanks(*(c[np.isin(of.pair, list(everywhere))] for c in of)) for v, of in ranks.items()}
    return {
        "k": k,
        "pairs": {name: int(mask.sum()) for name, mask in slice_masks(pairs).items()},
        "chance": min(1.0, k / max(num_items - 1, 1)),
        "hit_rate": {str(version): hit_rates(of, pairs, k=k) for version, of in common.items()},
    }


def _smallest_count(counts: pd.Series, share: pd.Series, end: float) -> int:
    within = counts[share.shift(fill_value=0.0) < end]
    return int(within.min()) if len(within) else 0


def _count_nearer(batch: pa.RecordBatch, pairs: pd.DataFrame, triggers: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Returns (2, P): items of a batch that are at least as near as the target, without and with known pairs left out."""
    ids = pd.Index(batch["item_id"].to_pandas())
    embeddings = batch["embedding"].flatten().to_numpy().reshape(batch.num_rows, -1)
    near = embeddings @ triggers.T >= least
    for side in ("trigger_item_id", "target_item_id"):  # neither is nearer than the target
        row = ids.get_indexer(pairs[side])
        here = np.flatnonzero(row >= 0)
        near[row[here], here] = False
    both = np.stack([near.sum(0), near.sum(0)])
    place = pd.Index(pairs["pair"])
    known = batch["known_of"]
    for row in np.flatnonzero(known.is_valid()):
        at = place.get_indexer(known[int(row)].values.to_pandas())
        at = at[at >= 0]
        both[1, at] -= near[row, at]
    return both
