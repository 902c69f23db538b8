"""Junk clusters: prefixes of codes that say little of their items, which have no content, share one, or are too many.

In: ``item_semantic_ids`` of one codebook version, and ``items``. Out: a bounded number of prefixes, the largest first, each
with the reasons for which it was named.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.storage.tables import ITEM_CONTENT

SHORT_TEXT = 3  # letters and digits below which a text says nothing
SAME_SHARE, CROWD, FEWEST = 0.5, 10, 3
SHOWN, _TITLES = 20, 3
WORDS = (
    f"A prefix is named if at least {FEWEST} items have it, and one of these holds: at least half of its items have no "
    f"content (no medium, no vector and fewer than {SHORT_TEXT} letters of text); at least half of them have the same "
    "content as another one, up to case, spaces and punctuation of the text; or it holds more than "
    f"{CROWD} times as many items as the average prefix of its length and more than a hundredth of all items."
)


def junk_clusters(codes: DataFrame, items: DataFrame, *, num_levels: int) -> list[dict[str, Any]]:
    """Find the prefixes of one code up to the whole semantic ID that look like junk.

    Args:
        codes: ``item_id`` and ``rq_codes`` (L).
        items: Rows of ``items``.
        num_levels: L, at least 1.

    Returns:
        At most ``SHOWN`` dicts, those with the most items first: ``prefix``, ``items``, ``no_content`` and ``same_content``
        (numbers of items), ``reasons`` (words), and ``titles``, a few titles in the order of a hash. A longer prefix is left
        out where a shorter one of the same items is named.
    """
    described = codes.select("item_id", "rq_codes").join(_described(items), on="item_id", how="inner")
    length = F.explode(F.sequence(F.lit(1), F.lit(num_levels))).alias("length")
    prefixes = described.select("*", length).withColumn("prefix", F.slice("rq_codes", 1, F.col("length")))
    of_content = prefixes.groupBy("length", "prefix", "content").agg(
        F.count("*").alias("alike"), F.count_if("no_content").alias("no_content")
    )
    clusters = of_content.groupBy("length", "prefix").agg(
        F.sum("alike").alias("items"),
        F.sum("no_content").alias("no_content"),
        F.sum(F.when(F.col("alike") > 1, F.col("alike")).otherwise(0)).alias("same_content"),
    )
    average = clusters.groupBy("length").agg(F.avg("items").alias("average"), F.sum("items").alias("all"))
    clusters = clusters.join(F.broadcast(average), on="length", how="inner")
    reasons = {
        "items without content": F.col("no_content") >= SAME_SHARE * F.col("items"),
        "items with the same content": F.col("same_content") >= SAME_SHARE * F.col("items"),
        "far more items than other prefixes of its length": (F.col("items") > CROWD * F.col("average"))
        & (F.col("items") > F.col("all") / 100),
    }
    said = F.array_compact(F.array(*[F.when(holds, F.lit(reason)) for reason, holds in reasons.items()]))
    named = clusters.select("length", "prefix", "items", "no_content", "same_content", said.alias("reasons"))
    named = named.where((F.col("items") >= FEWEST) & (F.size("reasons") > 0))
    rows = named.orderBy(F.desc("items"), "length", "prefix").limit(SHOWN * num_levels).drop("length").collect()
    kept: list[dict[str, Any]] = []
    for row in (row.asDict() for row in rows):
        shorter = [one for one in kept if row["prefix"][: len(one["prefix"])] == one["prefix"]]
        if all(one["items"] != row["items"] for one in shorter) and len(kept) < SHOWN:
            kept.append(row)
    return _with_titles(kept, prefixes)


def _described(items: DataFrame) -> DataFrame:
    """Return ``item_id``, ``title``, ``no_content`` and ``content``, which is equal for items of nearly the same content."""
    letters = F.lower(F.regexp_replace(F.coalesce("text", F.lit("")), r"[^\p{L}\p{N}]", ""))
    media = [name for name in ITEM_CONTENT if name != "text"]
    only_text = F.coalesce(*_flags(media)).isNull()
    return items.select(
        "item_id",
        F.coalesce("title", F.substring("text", 1, 60)).alias("title"),
        (only_text & (F.length(letters) < SHORT_TEXT)).alias("no_content"),
        F.when(only_text, F.sha2(letters, 256)).otherwise(F.col("content_hash")).alias("content"),
    )


def _flags(names: list[str]) -> list[Column]:
    """Return for each column True where it has a value, null elsewhere."""
    return [F.when(F.col(name).isNotNull(), F.lit(True)) for name in names]


def _with_titles(clusters: list[dict[str, Any]], prefixes: DataFrame) -> list[dict[str, Any]]:
    """Add a few titles to each prefix, in the order of a hash of the item ID."""
    titles: dict[tuple[int, ...], list[str]] = {}
    if clusters:
        named = prefixes.sparkSession.createDataFrame([(one["prefix"],) for one in clusters], "prefix array<int>")
        draw = F.row_number().over(Window.partitionBy("prefix").orderBy(F.xxhash64("item_id"), "item_id"))
        of_named = prefixes.join(F.broadcast(named), on="prefix", how="inner").withColumn("draw", draw)
        for row in of_named.where(F.col("draw") <= _TITLES).orderBy("draw").collect():
            titles.setdefault(tuple(row["prefix"]), []).append(row["title"] or "(no title)")
    return [{**one, "titles": titles.get(tuple(one["prefix"]), [])} for one in clusters]
