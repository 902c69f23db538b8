"""The items that are typical of a prefix: those nearest to the mean of its embeddings.

In: embeddings and codes. Out: at most a few item IDs for each prefix of at least two items. The means of short prefixes are
made of the means of longer ones, so that each embedding is summed once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.stat import Summarizer
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.codebooks.errors import matrix
from qarm_features.explorer.computing.tree import of_each_level


def typical_items(rows: DataFrame, *, num_levels: int, most: int = 4) -> DataFrame:
    """Find the typical items of all prefixes.

    Args:
        rows: ``item_id``, ``rq_codes`` (L) and ``embedding`` (D) of the items that are shown.
        num_levels: L, at least 1.
        most: Highest number of items of a prefix.

    Returns:
        ``prefix``, ``typical`` (item IDs as text, the nearest first).
    """
    rows = rows.select("item_id", "rq_codes", "embedding")
    by_prefix = of_each_level(rows, num_levels=num_levels, least=0)
    pairs = by_prefix.join(_means(rows, num_levels), on="prefix", how="inner")
    kind = rows.schema["item_id"].dataType.simpleString()
    scored = pairs.mapInArrow(_cosines, f"prefix array<int>, item_id {kind}, cosine double")
    best = Window.partitionBy("prefix").orderBy(F.desc("cosine"), "item_id")
    ranked = scored.withColumn("rank", F.row_number().over(best)).where(F.col("rank") <= most)
    in_order = F.array_sort(F.collect_list(F.struct("rank", F.col("item_id").cast("string").alias("item_id"))))
    return ranked.groupBy("prefix").agg(F.transform(in_order, lambda one: one["item_id"]).alias("typical"))


def _means(rows: DataFrame, num_levels: int) -> DataFrame:
    """Return ``prefix`` and ``mean`` (D) float64 of each prefix of at least two items."""
    mean = Summarizer.mean(array_to_vector(F.col("embedding"))).alias("mean")
    level = rows.groupBy(F.col("rq_codes").alias("prefix")).agg(mean, F.count("*").cast("double").alias("items"))
    means = level
    for length in range(num_levels - 1, -1, -1):
        weighted = Summarizer.mean(F.col("mean"), F.col("items")).alias("mean")
        level = level.groupBy(F.slice("prefix", 1, length).alias("prefix")).agg(weighted, F.sum("items").alias("items"))
        means = means.unionByName(level)
    return means.where(F.col("items") > 1).select("prefix", vector_to_array(F.col("mean")).alias("mean"))


def _cosines(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the cosine of each embedding with the mean of its prefix, to six digits, which any order of sums gives."""
    for batch in batches:
        if batch.num_rows:
            embeddings, means = matrix(batch["embedding"]).astype(np.float64), matrix(batch["mean"], np.float64)
            lengths = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(means, axis=1)
            cosines = np.einsum("bd,bd->b", embeddings, means) / np.maximum(lengths, 1e-12)
            columns = [batch["prefix"], batch["item_id"], pa.array(np.round(cosines, 6))]
            yield pa.RecordBatch.from_arrays(columns, ["prefix", "item_id", "cosine"])
