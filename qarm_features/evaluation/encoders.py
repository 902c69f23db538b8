"""Encoder versions are compared by HitRate@k on co-clicks that are later than all of their training pairs.

In: ``interactions``, ``item_pairs``, and ``item_embeddings`` of some encoder versions. Out: figures by encoder version and by
slice of the target items. The rank of a target is exact over the whole catalog: Spark counts the items that are nearer to
the trigger. Only a bounded number of pairs reaches the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.evaluation.co_click_pairs import Period, bought_together, future_co_clicks, shuffled
from qarm_features.evaluation.intervals import user_interval
from qarm_features.evaluation.popularity import (
    best_popularity_weight,
    matched_items,
    popular_hits,
    popularity_slices,
    with_popularity,
)
from qarm_features.evaluation.target_ranks import TargetRanks, target_ranks
from qarm_features.ranking.data.popularity import FEW
from qarm_features.storage.moments import count_ties

_TUNING_PAIRS = 2_000
SLICES = ("all", "head", "torso", "tail", "new", "few", "few triggers", "unseen pairs")


def evaluate(
    interactions: DataFrame,
    known: DataFrame,
    embeddings: DataFrame,
    *,
    versions: Sequence[int],
    frozen: int | None = None,
    period: Period,
    k: int,
    max_pairs: int,
    seed: int,
) -> dict[str, Any]:
    """Evaluate encoder versions on the same co-clicks, beside what popularity alone reaches.

    Args:
        interactions: Rows of ``interactions``.
        known: Rows of ``item_pairs``, all from before the period.
        embeddings: Rows of ``item_embeddings``.
        versions: Encoder versions, at least one.
        frozen: The one of them that was trained on no co-click, to which popularity is added as a baseline; None adds it to
            none.
        period: Period of the co-clicks.
        k: Number of nearest items, at least 1.
        max_pairs: Largest number of co-clicks, and of pairs that were bought together. More are sampled.
        seed: Seed for sampling co-clicks.

    Returns:
        The figures of ``summarize``, and

        - ``co_clicks``, the number of sampled co-clicks with and without embeddings,
        - ``since`` and ``period``, the first moment as text, and the reason for it,
        - ``ties``, a dict of ``consecutive`` and ``tied``, see ``moments.Ties``, of the positives of the period,
        - ``bought_together``, a dict of ``pairs`` and ``hit_rate`` (by encoder version) of items bought together,
        - ``shuffled``, HitRate@k by encoder version after the targets were exchanged among the pairs: what popularity gives,
        - ``frozen_with_popularity``, None or a dict of ``weight``, chosen on earlier co-clicks, and ``hit_rate`` by slice.

    Raises:
        ValueError: There is no co-click in the period.
    """
    since, by_version = period.since, {v: embeddings.where(F.col("encoder_version") == v) for v in versions}
    ties = count_ties(interactions.where(F.col("label") == 1), since=since)
    pairs = future_co_clicks(interactions, since=since, max_pairs=max_pairs, seed=seed).persist()
    slices = popularity_slices(interactions, until=since).persist()
    described = describe_pairs(pairs, slices, known)
    if described.empty:
        raise ValueError(
            f"interactions has no co-click since {since:%Y-%m-%d %H:%M} ({period.words}): {ties.words('positives')}. "
            "A co-click is two positives of one user at different moments. Run: qarm mine-item-pairs --until an earlier time"
        )
    ranked = embeddings.where(F.col("encoder_version").isin(list(versions))).select("item_id").distinct()
    positives = ranked.join(slices, on="item_id", how="left").select(
        "item_id", F.coalesce("positives", F.lit(0)).alias("positives")
    )
    positives = positives.persist()
    matched = matched_items(pairs, positives, seed=seed).persist()
    ranks = {version: target_ranks(pairs, known, rows, matched=matched) for version, rows in by_version.items()}
    described["popular"] = popular_hits(positives, described, k=k)
    beaten: pd.DataFrame = matched.groupBy("pair").agg(F.mean("beaten").alias("beaten")).toPandas()
    described["popular_beats"] = described["pair"].map(beaten.set_index("pair")["beaten"])
    together = bought_together(interactions, since=since, max_pairs=max_pairs, seed=seed).persist()
    ranks_together = {version: target_ranks(together, known, rows) for version, rows in by_version.items()}
    mixed = shuffled(pairs, seed=seed).persist()
    ranks_shuffled = {version: target_ranks(mixed, known, rows) for version, rows in by_version.items()}
    num_items = max(rows.count() for rows in by_version.values())
    figures = summarize(ranks, described, num_items=num_items, k=k, seed=seed, frozen=frozen) | {
        "co_clicks": len(described),
        "since": since.isoformat(),
        "period": period.words,
        "ties": ties._asdict(),
        "bought_together": _together(ranks_together, k=k),
        "shuffled": _together(ranks_shuffled, k=k)["hit_rate"],
        "frozen_with_popularity": None,
    }
    if frozen is not None:
        tuning: dict[str, Any] = {"until": since, "k": k, "max_pairs": _TUNING_PAIRS, "seed": seed}
        weight = best_popularity_weight(interactions, by_version[frozen], **tuning)
        weights = np.full(len(described), weight, np.float32)
        rows = with_popularity(by_version[frozen], slices)
        with_it = target_ranks(pairs, known, rows, popularity_weight=weights).of(_in_all(ranks))
        figures["frozen_with_popularity"] = {"weight": weight, "hit_rate": hit_rates(with_it, described, k=k)}
    for rows in (pairs, slices, positives, matched, together, mixed):
        rows.unpersist()
    return figures


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
        ``pair``, ``slice`` and ``positives`` of the target, ``trigger_positives``, ``seen``, which is true for training
        pairs, and ``user`` (a number).
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
        "user_id",
    )
    described: pd.DataFrame = rows.orderBy("pair").toPandas()
    described["user"] = pd.factorize(described.pop("user_id"))[0]
    return described


def summarize(
    ranks: dict[int, TargetRanks],
    pairs: pd.DataFrame,
    *,
    num_items: int,
    k: int,
    seed: int = 0,
    frozen: int | None = None,
) -> dict[str, Any]:
    """Summarize ranks for the terminal and the report, on the pairs that all versions have ranks for.

    Args:
        ranks: Ranks by encoder version.
        pairs: Pairs from ``describe_pairs``, with ``popular`` from ``popularity.popular_hits``, and ``popular_beats``, the
            mean of ``beaten`` from ``popularity.matched_items``.
        num_items: Number of items with an embedding.
        k: Number of nearest items, at least 1.
        seed: Seed of the resampled users.
        frozen: The encoder version from which the others differ; None compares none.

    Returns:
        A dict of

        - ``k``, ``pairs`` (number of pairs by slice), ``chance``,
        - ``hit_rate``, HitRate@k by encoder version and slice, and ``interval``, its 95% interval by resampled users, of all
          pairs, or None with fewer than two users,
        - ``popular``, HitRate@k by slice of the k items with the most positives before the period,
        - ``beats_matched``, by encoder version and slice the mean share of the items as popular as the target that are
          farther from the trigger than it; 0.5 by chance,
        - ``popular_beats_matched``, by slice the share of them that are less popular than the target, which popularity alone
          therefore reaches; above 0.5 where few items are as popular,
        - ``minus_frozen``, by every other encoder version a dict of ``hit_rate`` and ``beats_matched``, each a dict of the
          ``difference`` over all pairs and its 95% ``interval`` by resampled users, None where there is none.
    """
    in_all = _in_all(ranks)
    pairs = pairs[pairs["pair"].isin(in_all)]
    common = {version: version_ranks.of(in_all) for version, version_ranks in ranks.items()}
    users, masks = pairs["user"].to_numpy(), slice_masks(pairs)

    def means(values: np.ndarray, kept: np.ndarray) -> dict[str, float | None]:
        every = {name: values[mask.to_numpy() & kept] for name, mask in masks.items()}
        return {name: float(some.mean()) if len(some) else None for name, some in every.items()}

    return {
        "k": k,
        "pairs": {name: int(mask.sum()) for name, mask in masks.items()},
        "chance": min(1.0, k / max(num_items - 1, 1)),
        "hit_rate": {str(version): hit_rates(version_ranks, pairs, k=k) for version, version_ranks in common.items()},
        "interval": {str(v): user_interval(found.rank < k, users, seed=seed) for v, found in common.items()},
        "popular": means(pairs["popular"].to_numpy(), np.ones(len(pairs), bool)),
        "popular_beats_matched": means(pairs["popular_beats"].to_numpy(), pairs["popular_beats"].notna().to_numpy()),
        "beats_matched": {
            str(v): means(1 - found.rank_among_matched / np.maximum(found.matched, 1), found.matched > 0)
            for v, found in common.items()
        },
        "minus_frozen": {
            str(v): _minus(found, common[frozen], users, k=k, seed=seed)
            for v, found in common.items()
            if frozen is not None and v != frozen
        },
    }


def _minus(ranks: TargetRanks, frozen: TargetRanks, users: np.ndarray, *, k: int, seed: int) -> dict[str, Any]:
    """Return by how much an encoder is above the frozen one, on the same pairs and the same draws of users."""
    hits = (ranks.rank < k).astype(np.float64) - (frozen.rank < k)
    both = (ranks.matched > 0) & (frozen.matched > 0)
    nearer = (frozen.rank_among_matched / np.maximum(frozen.matched, 1)) - (
        ranks.rank_among_matched / np.maximum(ranks.matched, 1)
    )
    return {
        name: {
            "difference": float(values.mean()) if len(values) else None,
            "interval": user_interval(values, of_users, seed=seed),
        }
        for name, values, of_users in (("hit_rate", hits, users), ("beats_matched", nearer[both], users[both]))
    }


def _in_all(ranks: dict[int, TargetRanks]) -> np.ndarray:
    """Return the numbers of the pairs for which all versions have ranks, ascending."""
    return np.array(
        sorted(set.intersection(*[set(of_version.pair.tolist()) for of_version in ranks.values()])), np.int64
    )


def _together(ranks: dict[int, TargetRanks], *, k: int) -> dict[str, Any]:
    """Return HitRate@k of items bought together by encoder version, on the pairs that all versions have ranks for."""
    in_all, rates = _in_all(ranks), {}
    for version, version_ranks in ranks.items():
        hits = version_ranks.of(in_all).rank < k
        rates[str(version)] = float(hits.mean()) if len(hits) else None
    return {"pairs": len(in_all), "hit_rate": rates}
