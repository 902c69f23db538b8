"""Warnings of jobs: results that are valid, but that somebody should look at before they are used.

In: row counts, and semantic IDs. Out: sentences that name the figure and the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_REJECTED = 0.01  # share of rejected rows above which a job warns
_COLLIDING = 0.25  # share of items that share their semantic ID
_IN_ONE_ID = 0.01  # share of items with one semantic ID
_IN_ONE_CODE = 0.25  # share of items with one first code
_WITHOUT_VECTOR = 0.1  # share of items with positives but without a vector
_IN_USE = 0.5  # share of a level's codes that items use, below which a job warns


def rejected_rows(rows_in: int, rows_rejected: int) -> list[str]:
    """Returns a warning if a job rejected more than a hundredth of its rows.

    Example:
        >>> rejected_rows(200, 50)
        ['25.0% of the rows were rejected (50 of 200). The reasons are in the table rejected_rows.']
    """
    if rows_rejected <= _REJECTED * rows_in:
        return []
    share = f"{rows_rejected / rows_in:.1%} of the rows were rejected ({rows_rejected:,} of {rows_in:,})."
    return [f"{share} The reasons are in the table rejected_rows."]


def items_without_vectors(positives: DataFrame, vectors: DataFrame) -> list[str]:
    """Returns a warning if many items with positives have no vector, so that their positives make no pairs.

    Args:
        positives: Rows with ``item_id``.
        vectors: Rows with ``item_id``.
    """
    items = positives.select("item_id").distinct()
    known = vectors.select(F.col("item_id").cast(items.schema["item_id"].dataType)).withColumn("known", F.lit(True))
    counts = [F.count("*").alias("items"), F.count_if(F.col("known").isNull()).alias("without")]
    found = items.join(known, on="item_id", how="left").agg(*counts).collect()[0]
    if found["without"] <= _WITHOUT_VECTOR * found["items"]:
        return []
    return [
        f"{found['without']:,} of {found['items']:,} items with positives have no vector in item_pairs.item_vectors, and "
        "make no user-to-item pairs. Check that its item_id is that of the catalog."
    ]


def unused_codes(levels: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> list[str]:
    """Returns a warning for each level of codebooks of which items use less than half of the codes.

    Example:
        >>> unused_codes([{"codes_in_use": 3}, {"codes_in_use": 8}], [8, 8])
        ['Items use only 3 of the 8 codes of level 0. Lower codebooks.codebook_size, or check that the embeddings differ.']
    """
    found = [(number, level.get("codes_in_use"), size) for number, (level, size) in enumerate(zip(levels, sizes))]
    return [
        f"Items use only {in_use:,} of the {size:,} codes of level {number}. Lower codebooks.codebook_size, or check that "
        "the embeddings differ."
        for number, in_use, size in found
        if in_use is not None and in_use < _IN_USE * size
    ]


def shared_codes(codes: DataFrame, contents: DataFrame, *, codebook_size: int) -> list[str]:
    """Returns warnings about many collisions, about one semantic ID of many items, and about one large first cluster.

    Args:
        codes: Rows of ``item_id`` and ``rq_codes`` (L) of one codebook version.
        contents: Rows of ``item_id`` and ``content_hash`` of these items. Items with the same content have the same
            embedding, so that no codebook tells them apart.
        codebook_size: Number of codes K of the first level.
    """
    buckets = codes.groupBy("rq_codes").agg(F.count("*").alias("items"), F.min("item_id").alias("item_id"))
    by_first_code = buckets.groupBy(F.col("rq_codes")[0].alias("code")).agg(
        F.sum("items").alias("items"),
        F.sum(F.when(F.col("items") > 1, F.col("items")).otherwise(0)).alias("shared"),
        F.max(F.struct("items", "item_id", "rq_codes")).alias("largest"),
    )
    found = by_first_code.agg(
        F.sum("items").alias("items"),
        F.sum("shared").alias("shared"),
        F.max("largest").alias("largest"),
        F.max(F.struct("items", "code")).alias("first"),
    ).collect()[0]
    items, warnings = found["items"] or 0, []
    if not items:
        return []
    if found["shared"] > _COLLIDING * items:
        shared = f"{found['shared'] / items:.1%} of {items:,} items share their semantic ID with another item."
        alike = contents.groupBy("content_hash").agg(F.count("*").alias("items")).where("items > 1")
        same = alike.agg(F.sum("items")).collect()[0][0] or 0
        warnings.append(f"{shared} {_against_collisions(same, found['shared'], items)}")
    most = found["largest"]
    if most["items"] > max(10, _IN_ONE_ID * items):
        warnings.append(
            f"{most['items']:,} items ({most['items'] / items:.1%}) have the one semantic ID {list(most['rq_codes'])}, often "
            f"because their content is empty or the same. Look at them with: qarm show {most['item_id']}"
        )
    first = found["first"]
    if first["items"] > max(_IN_ONE_CODE, 4 / codebook_size) * items:
        warnings.append(
            f"{first['items']:,} of {items:,} items have the first code {first['code']}, which then tells little. Set "
            "codebooks.capacity, or check that the embeddings differ."
        )
    return warnings


def _against_collisions(same: int, shared: int, items: int) -> str:
    """Returns what to do about collisions.

    Args:
        same: Number of items whose content is that of another item.
        shared: Number of items that share their semantic ID.
        items: Number of items.
    """
    raised = "Raise codebooks.num_levels or codebooks.codebook_size, or set semantic_ids.bucket_cap."
    if same <= shared / 2:
        return raised
    return (
        f"{same / items:.1%} of the items have the same content as another item, and larger codebooks cannot tell these "
        "apart. Add a column to items.text, or an image, in which they differ, or set semantic_ids.bucket_cap."
    )
