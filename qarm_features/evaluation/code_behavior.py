"""What codes know of the behavior of users, beside what popularity alone reaches.

In: pairs of items that a user liked, the codes and the embeddings of all items. Out: HitRates and shares of common prefixes,
with their intervals by users, and with what remains of them when the targets are exchanged among the pairs, when the most
popular items are shown to everybody, and among items as popular as the target.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.evaluation.co_click_pairs import shuffled
from qarm_features.evaluation.co_clicks import CodedPairs, code_hits, coded_pairs, shared_lengths, shuffled_shares
from qarm_features.evaluation.encoders import describe_pairs, slice_masks
from qarm_features.evaluation.intervals import ratio_interval, user_interval
from qarm_features.evaluation.matched_prefixes import matched_prefixes, shares_of
from qarm_features.evaluation.popularity import matched_items, popular_hits
from qarm_features.evaluation.target_ranks import target_ranks


class Log(NamedTuple):
    """What was known of items and pairs before the period that is measured.

    Attributes:
        slices: Slices from ``popularity.popularity_slices``.
        known: ``trigger_item_id``, ``target_item_id`` of training pairs.
    """

    slices: DataFrame
    known: DataFrame


def behavior_figures(
    pairs: DataFrame, rows: DataFrame, codebooks: np.ndarray, log: Log, *, k: int, seed: int
) -> dict[str, Any] | None:
    """Measure codes and embeddings on pairs.

    Args:
        pairs: ``pair`` (bigint from 0), ``trigger_item_id``, ``target_item_id``, ``user_id``, of bounded number.
        rows: ``item_id``, ``embedding`` (D), ``rq_codes`` (L) of all items.
        codebooks: (L, K, D) float32 centroids.
        log: What was known before the period.
        k: Number of nearest items in HitRate@k, at least 1.
        seed: Seed of the exchange, of the order among equally popular items, and of the resampled users.

    Returns:
        None if no pair has codes for both items, else a dict of ``pairs``, their number, and

        - ``hit_rate`` (by code), ``hit_rate_embeddings`` and ``popular`` (the k items with the most positives before the
          period, for everybody), HitRate@k each,
        - ``interval``, a dict of the 95% intervals by resampled users of ``hit_rate`` and ``hit_rate_embeddings``,
        - ``shuffled``, a dict of both rates after the targets were exchanged at random among the pairs,
        - ``prefixes``, for each length from 1 to L a dict of ``codes`` (the length), ``share`` of pairs with the same first
          codes, its ``interval``, ``shuffled`` (``shuffled_shares``), ``lift`` (share divided by shuffled), ``matched`` (the
          share of items as popular as the target), ``lift_matched`` (share divided by matched) and its interval,
          ``lift_matched_interval``,
        - ``beats_matched``, the mean share of the items as popular as the target that share a shorter prefix with the
          trigger than it does, 0.5 by chance; ``popular_beats_matched``, the share that popularity alone reaches,
        - ``slices``, by name (``encoders.SLICES``) a dict of ``pairs``, the three rates, ``share`` and ``matched`` of the
          first code and ``beats_matched``, each None where the slice is empty.

        Intervals are None with fewer than two users. A lift is None if its divisor is 0.
    """
    mixed = shuffled(pairs, seed=seed)
    first = pairs.count()
    ends = pairs.select("pair", "trigger_item_id", "target_item_id")
    both = ends.unionByName(mixed.withColumn("pair", F.col("pair") + first)).persist()  # one pass for both
    coded = coded_pairs(both, rows)
    is_pair = coded.pair < first
    if not is_pair.any():
        both.unpersist()
        return None
    by_code = code_hits(coded, rows, codebooks, k=k)
    ranks = target_ranks(both, both.select("trigger_item_id", "target_item_id").limit(0), rows)
    by_embedding = (ranks.rank < k).astype(np.float64)
    own = coded.of(is_pair)
    told = _told(pairs, own, rows, log, k=k, seed=seed)
    told["hit_rate"], told["hit_rate_embeddings"] = by_code[is_pair], by_embedding[ranks.pair < first]
    both.unpersist()
    users = told["user"].to_numpy()
    rates = ("hit_rate", "hit_rate_embeddings")
    others = by_code[~is_pair], by_embedding[ranks.pair >= first]
    return {
        "pairs": len(told),
        **{name: float(told[name].mean()) for name in (*rates, "popular")},
        "interval": {name: user_interval(told[name].to_numpy(), users, seed=seed) for name in rates},
        "shuffled": {name: _mean(values) for name, values in zip(rates, others)},
        "prefixes": _prefixes(own, told, seed=seed),
        "beats_matched": _mean(told["beaten"]),
        "popular_beats_matched": _mean(told["popular_beaten"]),
        "slices": {name: _slice(told[mask]) for name, mask in slice_masks(told).items()},
    }


def _told(pairs: DataFrame, own: CodedPairs, rows: DataFrame, log: Log, *, k: int, seed: int) -> pd.DataFrame:
    """Return one row per coded pair: what ``describe_pairs`` says, ``length`` of the prefix, ``popular``, matched shares."""
    positives = rows.select("item_id").join(log.slices, on="item_id", how="left")
    positives = positives.select("item_id", F.coalesce("positives", F.lit(0)).alias("positives")).persist()
    matched = matched_items(pairs, positives, seed=seed).persist()
    told = describe_pairs(pairs, log.slices, log.known).set_index("pair").loc[own.pair].reset_index()
    told["popular"] = popular_hits(positives, told, k=k)
    told["length"] = shared_lengths(own)
    among = matched_prefixes(pairs, matched, rows, num_levels=own.trigger.shape[1])
    for frame in (matched, positives):
        frame.unpersist()
    return told.merge(among, on="pair", how="left")


def _prefixes(own: CodedPairs, told: pd.DataFrame, *, seed: int) -> list[dict[str, Any]]:
    num_levels, users = own.trigger.shape[1], told["user"].to_numpy()
    matched, found = shares_of(told, num_levels=num_levels), []
    has = ~np.isnan(matched[:, 0])
    for length, by_shuffle in enumerate(shuffled_shares(own), 1):
        same = (told["length"] >= length).to_numpy(np.float64)
        as_popular = matched[has, length - 1]
        ends = same[has], as_popular, users[has]
        found.append(
            {
                "codes": length,
                "share": float(same.mean()),
                "interval": user_interval(same, users, seed=seed),
                "shuffled": by_shuffle,
                "lift": _ratio(float(same.mean()), by_shuffle),
                "matched": _mean(as_popular),
                "lift_matched": _ratio(_mean(same[has]), _mean(as_popular)),
                "lift_matched_interval": ratio_interval(*ends, seed=seed) if has.any() else None,
            }
        )
    return found


def _slice(told: pd.DataFrame) -> dict[str, Any]:
    rates = {name: _mean(told[name]) for name in ("hit_rate", "hit_rate_embeddings", "popular")}
    share = _mean((told["length"] >= 1).astype(np.float64))
    of_matched = {"matched": _mean(told["share_1"]), "beats_matched": _mean(told["beaten"])}
    return {"pairs": len(told), **rates, "share": share, **of_matched}


def _mean(values: np.ndarray | pd.Series) -> float | None:
    """Return the mean without missing numbers, None if there is none."""
    kept = pd.Series(values).dropna()
    return float(kept.mean()) if len(kept) else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
