"""Export item pairs and the content of their items for training outside Spark.

In: ``item_pairs`` and ``items``. Out: a folder with ``items/*.parquet``, numbered from 0 (all items of the pairs and about as
many others), and ``pairs/*.parquet`` of these numbers, in the layout that ``qarm_features.alignment.packing`` reads. ::

    trigger_item_id  target_item_id  source        weight      trigger_index  target_index  weight  split
    12               7               item-to-item  0.25    ->  1              0             3.0     train
    12               7               user-to-item  2.0

The weights of a source are divided by their mean, here 0.25 and 1.0, because a score of Swing and a number of users have no
common scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.item_pairs.positives import dense_index

_DRAWS = 1 << 20
_BINS = 4096  # parts of the time of all pairs, whose numbers of pairs reach the driver
_PAIR = ("trigger_item_id", "target_item_id")
_LEAST_OTHERS = 10_000


def write_alignment_data(
    pairs: DataFrame,
    items: DataFrame,
    folder: str | Path,
    *,
    columns: Sequence[str],
    max_pairs: int,
    valid_share: float,
    valid_item_share: float,
    seed: int,
) -> int:
    """Write the training data of item alignment, without pairs of items that are no longer in the catalog.

    Args:
        pairs: Rows of ``item_pairs``; the weights of the sources of a pair are added, each divided by the mean of its source.
        items: Rows of ``items``.
        folder: Folder that is written; all training processes must see it.
        columns: Raw columns that the encoder reads.
        max_pairs: Approximate greatest number of pairs; a larger number is sampled by hash.
        valid_share: Share of pairs that are held out for early stopping, the latest, in [0, 1]. A pair and its reverse are
            held out together.
        valid_item_share: Share of items whose pairs are all held out as well, in [0, 1], drawn by hash.
        seed: Seed for sampling pairs, held-out items and further items.

    Returns:
        Number of pairs written.
    """
    known = items.select("item_id")
    latest = F.max(F.unix_micros("event_timestamp")).alias("micros")
    pairs = _on_one_scale(pairs).groupBy(*_PAIR).agg(F.sum("weight").alias("weight"), latest)
    for side in _PAIR:
        pairs = pairs.join(known.withColumnRenamed("item_id", side), on=side, how="left_semi")
    ends = F.least(*_PAIR), F.greatest(*_PAIR)  # a pair and its reverse get the same random numbers
    pairs = pairs.withColumn("draw", _draw(seed, *ends)).persist()
    total = pairs.count()
    sampled = pairs.where(F.col("draw") >= (1 - min(1.0, max_pairs / max(total, 1))) * _DRAWS)
    triggers, targets = (sampled.select(F.col(side).alias("item_id")) for side in _PAIR)
    paired = triggers.unionByName(targets).distinct().persist()
    index = dense_index(paired.unionByName(_others(known, paired, seed)), "item_id", "item_index").persist()
    content = items.select("item_id", *columns).join(index, on="item_id", how="inner")
    content.select(F.col("item_index").cast("bigint").alias("item_index"), *columns).write.mode("overwrite").parquet(
        f"{folder}/items"
    )
    for side in ("trigger", "target"):
        numbers = index.select(F.col("item_id").alias(f"{side}_item_id"), F.col("item_index").alias(f"{side}_index"))
        sampled = sampled.join(numbers, on=f"{side}_item_id", how="inner")
    sampled = sampled.withColumn("micros", F.max("micros").over(Window.partitionBy(*ends))).persist()
    held_out = _latest(sampled, valid_share, _draw(seed + 1, *ends))
    for side in _PAIR:
        held_out = held_out | (_draw(seed + 2, side) < valid_item_share * _DRAWS)
    rows = sampled.select(
        F.col("trigger_index").cast("bigint").alias("trigger_index"),
        F.col("target_index").cast("bigint").alias("target_index"),
        "weight",
        F.when(held_out, "valid").otherwise("train").alias("split"),
    ).persist()
    rows.write.mode("overwrite").parquet(f"{folder}/pairs")
    return rows.count()


def _on_one_scale(pairs: DataFrame) -> DataFrame:
    """Divide the weights of each source by their mean, so that a power of the weights means the same for each."""
    means = pairs.groupBy("source").agg(F.mean("weight").alias("mean")).collect()  # one row for each source
    # Seven digits, because the last ones depend on the order in which Spark adds.
    scale = [item for row in means for item in (F.lit(row["source"]), F.lit(float(f"{row['mean']:.6e}")))]
    if not scale:
        return pairs
    return pairs.withColumn("weight", F.col("weight") / F.create_map(*scale)[F.col("source")])


def _latest(pairs: DataFrame, share: float, draw: Column) -> Column:
    """Return whether a pair is among the latest; of those at the limit, some are taken by hash.

    Args:
        pairs: Pairs with ``micros``, the same for a pair and its reverse.
        share: Share of the latest pairs, in [0, 1].
        draw: Number in [0, 2**20) of a pair, the same for its reverse.
    """
    bounds = pairs.agg(
        F.min("micros").alias("first"), F.max("micros").alias("last"), F.count("*").alias("pairs")
    ).first()
    if bounds is None or bounds["pairs"] == 0:
        return F.lit(False)
    width = (bounds["last"] - bounds["first"]) // _BINS + 1
    bin_of_pair = F.floor((F.col("micros") - F.lit(bounds["first"])) / F.lit(width))
    counts = {row["bin"]: row["count"] for row in pairs.groupBy(bin_of_pair.alias("bin")).count().collect()}
    wanted = share * bounds["pairs"]
    for limit in sorted(counts, reverse=True):
        if wanted <= counts[limit]:
            break
        wanted -= counts[limit]
    at_limit = (bin_of_pair == limit) & (draw < wanted / counts[limit] * _DRAWS)
    return (bin_of_pair > limit) | at_limit


def _others(items: DataFrame, paired: DataFrame, seed: int) -> DataFrame:
    """Sample about as many items without a pair as there are with one; training preserves their geometry."""
    others = items.join(paired, on="item_id", how="left_anti")
    share = max(paired.count(), _LEAST_OTHERS) / max(others.count(), 1)
    return others.where(_draw(seed, "item_id") < min(1.0, share) * _DRAWS)


def _draw(seed: int, *columns: Column | str) -> Column:
    """Return a number in [0, 2**20) for each row: a hash of the columns."""
    return F.pmod(F.xxhash64(F.lit(seed), *columns), F.lit(_DRAWS))
