"""Item vectors for user-to-item pairs, supplied by the user or fitted to the click log by implicit ALS.

In: positives, or a table of vectors. Out: ``item_id`` and ``vector`` (D).
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.item_pairs.positives import dense_index

_ITERATIONS = 10
_ROWS_PER_BLOCK = 2_000_000


def read_item_vectors(spark: SparkSession, path: str) -> DataFrame:
    """Read the item vectors of a retrieval model.

    Args:
        spark: Spark session.
        path: Folder or URI of a Delta table, or of Parquet if it ends in ``.parquet``.

    Returns:
        ``item_id``, ``vector`` (D).

    Raises:
        ValueError: The table lacks a column, a column has another type, the vectors differ in length, or an item has several.
    """
    rows = spark.read.format("parquet" if path.endswith(".parquet") else "delta").load(path)
    missing = [name for name in ("item_id", "vector") if name not in rows.columns]
    if missing:
        raise ValueError(
            f"item_pairs.item_vectors names {path}, which has no column {', '.join(missing)}. "
            f"Present: {', '.join(rows.columns)}. Rename the columns to item_id and vector."
        )
    kind = rows.schema["vector"].dataType
    if not isinstance(kind, T.ArrayType) or not isinstance(kind.elementType, T.NumericType):
        raise ValueError(
            f"Column vector of item_pairs.item_vectors is {kind.simpleString()}, must be an array of numbers. "
            "Cast it, for example with vector_to_array from pyspark.ml.functions."
        )
    present = rows.where(F.col("vector").isNotNull())
    lengths = present.agg(F.min(F.size("vector")).alias("shortest"), F.max(F.size("vector")).alias("longest")).first()
    assert lengths is not None  # an aggregate without a key has one row
    shortest, longest = lengths["shortest"], lengths["longest"]
    if not shortest or shortest != longest:
        raise ValueError(
            f"The length of vectors in item_pairs.item_vectors is {shortest or 0} to {longest or 0}, must be the same for "
            "all and at least 1. Write the vectors of one model."
        )
    several = present.groupBy("item_id").count().where("count > 1").first()
    if several is not None:
        raise ValueError(
            f"item_pairs.item_vectors has {several['count']} vectors of item {several['item_id']}, must have at most 1 of "
            "each item. Keep the vectors of one model and one time."
        )
    return rows.select("item_id", "vector")


def als_item_vectors(latest: DataFrame, item_index: DataFrame, *, rank: int, seed: int) -> DataFrame:
    """Fit implicit ALS on positives and return its item factors.

    Spark's ALS samples its first factors for each block and adds up rows in the order in which they arrive. The number of
    blocks therefore depends on the number of rows, not on the cluster, and rows are hashed and sorted before the fit. The
    same rows then give the same factors, whatever their partitions. On a cluster the order of network fetches still changes
    the last digits of sums in double precision. Similarities are rounded to far fewer digits.

    Args:
        latest: ``user_id``, ``item_id``, ``micros``.
        item_index: ``item_id``, ``item``.
        rank: Length D of the vectors, at least 1.
        seed: Seed for the first factors.

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
