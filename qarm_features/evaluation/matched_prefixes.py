"""Prefixes that a trigger shares with its target are compared with those that it shares with items as popular as the target.

Codes that say only how popular an item is give co-clicked items common prefixes, because users of popular items click popular
items. An item as popular as the target has the same such code, so that the comparison leaves nothing of it.

In: pairs, items as popular as their targets, and the codes of all items. Out: a few numbers per pair.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def matched_prefixes(pairs: DataFrame, matched: DataFrame, codes: DataFrame, *, num_levels: int) -> pd.DataFrame:
    """Compare prefixes with the target and with items as popular, for each pair.

    ::

        trigger [0, 1], target [0, 1]; as popular: [0, 2] and [3, 1]  ->  share_1 0.5, share_2 0.0, beaten 1.0

    Args:
        pairs: ``pair``, ``trigger_item_id``, ``target_item_id``, of bounded number.
        matched: ``pair``, ``item_id`` of the items as popular as the target, from ``popularity.matched_items``, and
            ``beaten``, the share of them that are less popular than the target.
        codes: ``item_id``, ``rq_codes`` (L) of all items.
        num_levels: Number L of levels.

    Returns:
        ``pair``, ascending, ``share_1`` to ``share_L``, the shares of matched items whose first codes are those of the
        trigger, ``beaten``, the share of them with a shorter common prefix than the target (ties count one half), and
        ``popular_beaten``, the share of them with fewer positives than the target. Pairs without matched items have no row.
    """
    coded = pairs.select("pair", "trigger_item_id", "target_item_id")
    for side in ("trigger", "target"):
        of_side = codes.select(F.col("item_id").alias(f"{side}_item_id"), F.col("rq_codes").alias(side))
        coded = coded.join(of_side, on=f"{side}_item_id", how="inner")
    rows = matched.join(codes.select("item_id", "rq_codes"), on="item_id", how="inner")
    rows = rows.join(coded.select("pair", "trigger", "target"), on="pair", how="inner")
    of_item, of_target = (_shared_length(F.col(side), F.col("trigger"), num_levels) for side in ("rq_codes", "target"))
    rows = rows.select("pair", "beaten", of_item.alias("length"), of_target.alias("of_target"))
    shares = [
        F.mean((F.col("length") >= length).cast("double")).alias(f"share_{length}")
        for length in range(1, num_levels + 1)
    ]
    by_code = (F.signum((F.col("of_target") - F.col("length")).cast("double")) + 1) / 2
    found = rows.groupBy("pair").agg(*shares, F.mean(by_code).alias("beats"), F.mean("beaten").alias("popular_beaten"))
    frame: pd.DataFrame = found.orderBy("pair").toPandas()  # at most one row per pair
    return frame.rename(columns={"beats": "beaten"})


def shares_of(matched: pd.DataFrame, *, num_levels: int) -> np.ndarray:
    """Return the shares (P, L) of matched items with a common prefix of 1 to L codes.

    Args:
        matched: Rows of ``matched_prefixes``.
        num_levels: Number L of levels.
    """
    return matched[[f"share_{length}" for length in range(1, num_levels + 1)]].to_numpy(np.float64)


def _shared_length(one: Column, other: Column, num_levels: int) -> Column:
    """Return the number of codes of the common prefix of two columns of codes (L)."""
    same = ((F.slice(one, 1, length) == F.slice(other, 1, length)).cast("int") for length in range(1, num_levels + 1))
    total = F.lit(0)
    for length in same:
        total = total + length
    return total
