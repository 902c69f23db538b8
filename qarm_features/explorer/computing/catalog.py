"""The items of a release, with what people read of them.

In: ``item_semantic_ids`` of a release, ``items`` and ``interactions``. Out: one row per item, and which of them are shown. ::

    item_id  rq_codes  title      text     positives  content_hash  item_hash
    7        [3, 0]    Toy Story  Toy ...  212        9f86d0...     -83123
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_TITLE, _TEXT = 200, 10_000  # characters that are kept


def release_items(codes: DataFrame, items: DataFrame, interactions: DataFrame, *, seed: int) -> DataFrame:
    """Return the items of a release.

    Args:
        codes: ``item_id``, ``rq_codes`` (L) of the release.
        items: Rows of ``items``.
        interactions: Rows of ``interactions``.
        seed: Seed of the hash by which items are sampled.

    Returns:
        ``item_id`` as in the catalog, ``rq_codes``, ``title``, ``text`` ("" for an item that left the catalog),
        ``positives``, ``content_hash`` and ``item_hash`` (bigint).
    """
    positives = interactions.where(F.col("label") == 1).groupBy("item_id").agg(F.count("*").alias("positives"))
    said = items.select("item_id", _title().alias("title"), _shortened("text", _TEXT).alias("text"), "content_hash")
    rows = codes.select("item_id", "rq_codes").join(said, on="item_id", how="left")
    rows = rows.join(positives, on="item_id", how="left").fillna(0, subset=["positives"])
    return rows.fillna("", subset=["title", "text"]).withColumn("item_hash", F.xxhash64(F.lit(seed), "item_id"))


def shown_items(rows: DataFrame, *, items: int, max_items: int) -> DataFrame:
    """Return all items, or a sample by the hash of the item ID.

    Args:
        rows: Rows of ``release_items``.
        items: Number of rows.
        max_items: Approximate highest number of rows of the sample, at least 1.
    """
    if items <= max_items:
        return rows
    return rows.where(F.col("item_hash") < F.lit(int(2**64 * (max_items / items) - 2**63)))


def _title() -> Column:
    """Return the title, or the start of the text where there is none."""
    blank = F.trim(F.coalesce("title", F.lit(""))) == ""
    start = F.when(F.length("text") > 60, F.concat(F.substring("text", 1, 60), F.lit("…"))).otherwise(F.col("text"))
    return F.coalesce(F.when(~blank, _shortened("title", _TITLE)), start, F.lit(""))


def _shortened(name: str, most: int) -> Column:
    whole = F.col(name)
    return F.when(F.length(whole) > most, F.concat(F.substring(whole, 1, most), F.lit("…"))).otherwise(whole)
