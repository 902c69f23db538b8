"""Collisions, code usage and errors of semantic IDs are computed in Spark over all items.

In: ``item_semantic_ids`` of one codebook version, and optionally the embeddings, the codebooks and the number of clicks of
each item. Out: a few numbers for each level and for whole IDs. ::

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
    """Measure collisions and code usage.

    Args:
        semantic_ids: ``rq_codes`` of one codebook version, one row per item, and the weight column.
        num_levels: Number L of levels.
        codebook_size: Number K of centroids, or a list with that of each level.
        weight: Name of a column of integers of at least 0, for example clicks. None counts each item once.

    Returns:
        A dict of

        - ``items``, the number of items, and ``semantic_ids``, the number of distinct IDs,
        - ``collision_rate``, the share of items that share their ID with another, and ``unique_share``, 1 minus that rate,
        - ``largest_bucket``, the largest number of items with one ID,
        - ``levels``, a list with a dict for each level of ``level``, ``codebook_size`` (K), ``codes_in_use``,
          ``code_usage`` (their share of K), ``entropy`` (bits, at most log2 K), ``perplexity`` (1 to K, and K if all codes
          are equally frequent) and ``gini`` (0 if all codes are equally frequent, near 1 if few codes hold all items).

        With ``weight`` the rate, the share, entropy, perplexity and Gini coefficient count weights in place of items. They
        are None if all weights are 0.
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
    assert whole is not None  # an aggregate without a key has one row
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
    """Measure the quantization error of embeddings after each level.

    Args:
        rows: ``embedding`` (D) of about unit norm and ``rq_codes`` (L), one row per item, and the weight column.
        codebooks: (L, K, D) float32 centroids.
        weight: Name of a column of integers of at least 0. None leaves the weighted figures out.

    Returns:
        ``levels``, and with ``weight`` also ``levels_weighted``: for each level ``error`` (mean squared error after the
        level), ``relative_error`` (error divided by the mean square of the embeddings) and ``explained_variance`` (1 minus
        the error divided by the variance of the embeddings). A figure is None if its divisor is 0.
    """
    plain, weighted = sum_errors(rows, codebooks, weight=weight)
    found = {"levels": _error_levels(plain)}
    return found | ({"levels_weighted": _error_levels(weighted)} if weight else {})


def shared_ids(old: DataFrame, new: DataFrame, *, num_levels: int) -> dict[str, Any]:
    """Measure how many items have the same codes under two codebook versions.

    Args:
        old: ``item_id``, ``rq_codes`` of one version.
        new: ``item_id``, ``rq_codes`` of the other version.
        num_levels: Number L of levels of both.

    Returns:
        ``items``, the number of items in both, ``levels``, the share of items with the same code at each level, and
        ``semantic_ids``, the share of items with the same ID.
    """
    both = old.select("item_id", F.col("rq_codes").alias("old_codes")).join(
        new.select("item_id", "rq_codes"), on="item_id", how="inner"
    )
    return kept_shares(both, num_levels=num_levels)


def _levels(by_code: DataFrame, total: int, num_levels: int, codebook_size: int | list[int]) -> list[dict[str, Any]]:
    """Measure the usage of each level. The Gini coefficient also counts the codes without items."""
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
        ranks = row["ranks"] + size - row["codes_in_use"]  # the codes without items have the lowest ranks
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
