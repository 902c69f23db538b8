"""Item vectors for user-to-item pairs: given by the user, or fitted to the click log by implicit ALS.

In: positives, or a table of vectors. Out: ``item_id``, ``vector`` (D).
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.item_pairs.positives import dense_index

_ITERATIONS = 10
_ROWS_PER_BLOCK = 2_000_000


def read_item_vectors(spark: SparkSession, path: str) -> DataFrame:
    """Reads vectors of a retrieval model from a Delta table, or from Parquet when ``path`` ends in ``.parquet``.

    Raises:
        ValueError: It lacks a column, a column has another type, or the vectors differ in their number of dimensions.
    """
    rows = spark.read.format("parquet" if path.endswith(".parquet") else "delta").load(path)
    missing = [name for name in ("item_id", "vector") if name not in rows.columns]
    if missing:
        raise ValueError(
            f"item_pairs.item_vectors {path} lacks {', '.join(missing)}, must have item_id and vector. "
            f"Present: {', '.join(rows.columns)}."
        )
    kind = rows.schema["vector"].dataType
    if not isinstance(kind, T.ArrayType) or not isinstance(kind.elementType, T.NumericType):
        raise ValueError(
            f"vector of item_pairs.item_vectors is {kind.simpleString()}, must be an array of numbers. "
            "Cast it, for example by vector_to_array of pyspark.ml.functions."
        )
    present = rows.where(F.col("vector").isNotNull())
    least, most = present.agg(F.min(F.size("vector")), F.max(F.size("vector"))).first()
    if least is None or least != most or not least:
        raise ValueError(
            f"item_pairs.item_vectors has vectors of {least or 0} to {most or 0} numbers, must be of one length. "
            "Write the vectors of one model."
        )
    return rows.select("item_id", "vector")


def als_item_vectors(latest: DataFrame, item_index: DataFrame, *, rank: int, seed: int) -> DataFrame:
    """Fits implicit ALS on the positives given and returns its item factors.

    Spark's ALS draws its first factors by block and adds up in the order in which rows arrive. So the number of blocks
    follows the rows, not the cluster, and rows are hashed and sorted before the fit: the same rows give the same factors
    whatever their partitions. On a cluster the order of network fetches still moves the sums, which are of double
    precision; similarities are rounded far above that.

    Args:
        latest: ``user_id``, ``item_id``, ``micros``.
        item_index: ``item_id``, ``item``.
        rank: D.
        seed: Of the first factors.

    Returns:
        ``item_id``, ``vector`` (D).
    """
    from pyspark.ml.recommendation import ALS

    ratings = latest.select("user_id", "item_id").distinct()
    ratings = ratings.join(item_index, on="item_id", how="inner")
    ratings = ratings.join(dense_index(latest, "user_id", "user"), on="user_id", how="inner").select("user", "item")
    blocks = max(4, latest.count() // _ROWS_PER_BLOCK)
    ratings = ratings.repartition(blocks, "user").sortWithinPartitions("user", "item").withColumn("rating", F.lit(1.0))
    als = ALS(
        userCol="user", itemCol="item", ratingCol="rating", implicitPrefs=True, rank=rank, maxIter=_ITERATIONS,
        numUserBlocks=blocks, numItemBlocks=blocks, seed=seed,
    )  # fmt: skip
    factors = als.fit(ratings).itemFactors.select(F.col("id").alias("item"), F.col("features").alias("vector"))
    return factors.join(item_index, on="item", how="inner").select("item_id", "vector")
