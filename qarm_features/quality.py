"""How good semantic IDs are, computed in Spark over all items.

In: ``item_semantic_ids`` of one codebook version. Out: a few numbers per level and for the whole ID. ::

    item_id  rq_codes      items 3, semantic_ids 2, collision_rate 0.67, unique_share 0.33, largest_bucket 2
    1        [0, 1]    ->  level 0: codes_in_use 1 of K, perplexity 1.0
    2        [0, 1]        level 1: codes_in_use 2 of K, perplexity 1.9
    3        [0, 0]
"""

from __future__ import annotations

import math
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def semantic_id_quality(semantic_ids: DataFrame, *, num_levels: int, codebook_size: int) -> dict[str, Any]:
    """Measures collisions and code usage.

    Args:
        semantic_ids: ``rq_codes`` of one codebook version, a row per item.
        num_levels: L.
        codebook_size: K.

    Returns:
        ``items``; ``semantic_ids`` (distinct); ``collision_rate``, the share of items that share their ID with another;
        ``unique_share``, 1 minus that; ``largest_bucket`` in items; ``levels``: per level ``codes_in_use``, ``code_usage``
        (their share of K), ``perplexity`` (1 to K: K when all codes are equally frequent).
    """
    buckets = semantic_ids.groupBy("rq_codes").agg(F.count("*").alias("items"))
    whole = buckets.agg(
        F.sum("items").alias("items"),
        F.count("*").alias("semantic_ids"),
        F.coalesce(F.sum(F.when(F.col("items") > 1, F.col("items"))), F.lit(0)).alias("colliding"),
        F.max("items").alias("largest_bucket"),
    ).first()
    codes = semantic_ids.select(F.posexplode("rq_codes").alias("level", "code"))
    by_code = codes.groupBy("level", "code").agg(F.count("*").alias("items"))
    share = F.col("items") / F.lit(whole["items"])
    by_level = by_code.groupBy("level").agg(
        F.count("*").alias("codes_in_use"), (-F.sum(share * F.log(share))).alias("entropy")
    )  # L rows
    levels = [
        {
            "level": row["level"],
            "codes_in_use": row["codes_in_use"],
            "code_usage": row["codes_in_use"] / codebook_size,
            "perplexity": math.exp(row["entropy"]),
        }
        for row in by_level.where(F.col("level") < num_levels).orderBy("level").collect()
    ]
    return {
        "items": whole["items"],
        "semantic_ids": whole["semantic_ids"],
        "collision_rate": whole["colliding"] / whole["items"],
        "unique_share": 1 - whole["colliding"] / whole["items"],
        "largest_bucket": whole["largest_bucket"],
        "levels": levels,
    }
