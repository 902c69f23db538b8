"""How good semantic IDs are, computed in Spark over all items.

In: ``item_semantic_ids`` of one codebook version, perhaps the embeddings, the codebooks and how often each item is clicked.
Out: a few numbers per level and for the whole ID. ::

    item_id  rq_codes      items 3, semantic_ids 2, collision_rate 0.67, unique_share 0.33, largest_bucket 2
    1        [0, 1]    ->  level 0: codes_in_use 1 of K, perplexity 1.0
    2        [0, 1]        level 1: codes_in_use 2 of K, perplexity 1.9
    3        [0, 0]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.codebooks.errors import ErrorSums, sum_errors
from qarm_features.codebooks.relabeling import kept_shares


def semantic_id_quality(
    semantic_ids: DataFrame, *, num_levels: int, codebook_size: int | list[int], weight: str | None = None
) -> dict[str, Any]:
    """Measures collisions and code usage.

    Args:
        semantic_ids: ``rq_codes`` of one codebook version, a row per item; and the column ``weight``.
        num_levels: L.
        codebook_size: K, or that of each level.
        weight: Column of integers of at least 0 by which shares of items are weighted (clicks); None counts each item once.

    Returns:
        ``items``; ``semantic_ids`` (distinct); ``collision_rate``, the share of items that share their ID with another;
        ``unique_share``, 1 minus that; ``largest_bucket`` in items; ``levels``: per level ``codebook_size`` (K),
        ``codes_in_use``, ``code_usage`` (their share of K), ``entropy`` (bits, at most log2 K), ``perplexity`` (1 to K: K
        when all codes are equally frequent), ``gini`` (0 when they are, toward 1 when few codes hold all).
        With ``weight`` the rate, the share, and
        entropy, perplexity and gini are of the weights; None where these are all 0.
    """
    amount = F.col(weight) if weight else F.lit(1)
    buckets = semantic_ids.groupBy("rq_codes").agg(F.count("*").alias("items"), F.sum(amount).alias("weight"))
    whole = buckets.agg(
        F.sum("items").alias("items"),
        F.count("*").alias("semantic_ids"),
        F.sum("weight").alias("weight"),
        F.coalesce(F.sum(F.when(F.col("items") > 1, F.col("weight"))), F.lit(0)).alias("colliding"),
        F.max("items").alias("largest_bucket"),
    ).first()
    codes = semantic_ids.select(F.posexplode("rq_codes").alias("level", "code"), amount.alias("weight"))
    by_code = codes.groupBy("level", "code").agg(F.sum("weight").alias("weight"))
    colliding = whole["colliding"] / whole["weight"] if whole["weight"] else None
    return {
        "items": whole["items"],
        "semantic_ids": whole["semantic_ids"],
        "collision_rate": colliding,
        "unique_share": None if colliding is None else 1 - colliding,
        "largest_bucket": whole["largest_bucket"],
        "levels": _levels(by_code, whole["weight"], num_levels, codebook_size),
    }


def error_quality(rows: DataFrame, codebooks: np.ndarray, *, weight: str | None = None) -> dict[str, Any]:
    """Measures what codes leave over of the embeddings.

    Args:
        rows: ``embedding`` (D) of about unit norm, ``rq_codes`` (L), a row per item; and the column ``weight``.
        codebooks: (L, K, D) float32.
        weight: Column of integers of at least 0; None leaves the weighted figures out.

    Returns:
        ``levels`` and, by weight, ``levels_weighted``: per level ``error`` (mean squared error after it),
        ``relative_error`` (by the mean square of the embeddings), ``explained_variance`` (1 minus the error by their
        variance); None where there is nothing to divide by.
    """
    plain, weighted = sum_errors(rows, codebooks, weight=weight)
    found = {"levels": _error_levels(plain)}
    return found | ({"levels_weighted": _error_levels(weighted)} if weight else {})


def shared_ids(old: DataFrame, new: DataFrame, *, num_levels: int) -> dict[str, Any]:
    """Says how many items have the same codes under two versions.

    Args:
        old: ``item_id``, ``rq_codes``.
        new: Likewise.
        num_levels: L of both.

    Returns:
        ``items`` in both, ``levels`` (share with the same code, per level), ``semantic_ids`` (share with the same ID).
    """
    both = old.select("item_id", F.col("rq_codes").alias("old_codes")).join(
        new.select("item_id", "rq_codes"), on="item_id", how="inner"
    )
    return kept_shares(both, num_levels=num_levels)


def _levels(by_code: DataFrame, total: int, num_levels: int, codebook_size: int | list[int]) -> list[dict[str, Any]]:
    """Sums up the codes of each level; of Gini's mean of ranks the codes without items are part."""
    share = F.col("weight") / F.lit(max(total, 1))
    in_order = Window.partitionBy("level").orderBy("weight", "code")  # at most K rows
    ranked = by_code.withColumn("rank", F.row_number().over(in_order))
    sums = ranked.groupBy("level").agg(
        F.count("*").alias("codes_in_use"),
        F.coalesce(-F.sum(F.when(F.col("weight") > 0, share * F.log2(share))), F.lit(0.0)).alias("entropy"),
        F.sum(F.col("rank") * share).alias("ranks"),
    )
    levels, sizes = [], codebook_size if isinstance(codebook_size, list) else [codebook_size] * num_levels
    for row in sums.where(F.col("level") < num_levels).orderBy("level").collect():  # L rows
        size = sizes[row["level"]]
        ranks = row["ranks"] + size - row["codes_in_use"]  # those without items come first
        spread = {
            "entropy": row["entropy"] + 0.0,
            "perplexity": math.pow(2, row["entropy"]),
            "gini": (2 * ranks - size - 1) / size,
        }
        spread = spread if total else dict.fromkeys(spread)
        usage = {"codebook_size": size, "codes_in_use": row["codes_in_use"], "code_usage": row["codes_in_use"] / size}
        levels.append({"level": row["level"], **usage, **spread})
    return levels


def _error_levels(sums: ErrorSums) -> list[dict[str, Any]]:
    return [
        {
            "level": level,
            "error": _ratio(error, sums.weight),
            "relative_error": _ratio(error, sums.energy),
            "explained_variance": None if sums.variance <= 0 else 1 - error / sums.variance,
        }
        for level, error in enumerate(sums.errors.tolist())
    ]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
