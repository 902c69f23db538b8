"""Plain scans are recognized, and Arrow reads the same rows from their files as Spark does."""

from __future__ import annotations

import numpy as np
import pytest
from delta.tables import DeltaTable
from pyspark.sql import functions as F

from qarm_features.quantizers import ResidualKMeans, ResidualKMeansFiniteScalar
from qarm_features.quantizers.code_columns import codes_beside
from qarm_features.quantizers.passes import embedding_files
from qarm_features.quantizers.passes.parquet_scan import plain_scan, read_splits

SCHEMA = "item_id long, embedding array<float>, version int"


@pytest.fixture(scope="module")
def rows(spark):
    """900 rows (D = 4) of two encoder versions."""
    embeddings = np.random.default_rng(0).normal(size=(900, 4)).astype(np.float32)
    return spark.createDataFrame([(i, row.tolist(), i % 2) for i, row in enumerate(embeddings)], SCHEMA).coalesce(2)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory, rows):
    """Three files of several row groups each."""
    path = f"{tmp_path_factory.mktemp('parquet')}/rows"
    rows.repartition(3).write.option("parquet.block.size", 1500).option("parquet.page.row.count.limit", 10).parquet(
        path
    )
    return path


@pytest.fixture(scope="module")
def delta(tmp_path_factory, rows):
    path = f"{tmp_path_factory.mktemp('delta')}/rows"
    rows.write.format("delta").partitionBy("version").option("delta.enableDeletionVectors", "true").save(path)
    return path


@pytest.fixture
def small_splits(spark):
    spark.conf.set("spark.sql.files.maxPartitionBytes", "2000")
    yield
    spark.conf.unset("spark.sql.files.maxPartitionBytes")


def read(scan):
    batches = [batch for splits in scan.partitions for batch in read_splits(splits, scan.columns)]
    return sorted(tuple(map(str, row.values())) for batch in batches for row in batch.to_pylist())


def by_spark(frame):
    return sorted(tuple(map(str, row)) for row in frame.collect())


def test_every_row_group_is_read_once_whatever_the_splits(spark, parquet, small_splits):
    frame = spark.read.parquet(parquet).select("embedding", "item_id")

    scan = plain_scan(frame)

    assert len(scan.partitions) > 6
    assert scan.columns == ["embedding", "item_id"]
    assert read(scan) == read(scan.packed(2)) == by_spark(frame)
    assert len(scan.packed(2).partitions) == 2


def test_a_partition_of_a_delta_table_by_another_name_is_a_plain_scan(spark, delta):
    frame = spark.read.format("delta").load(delta).where("version = 1").select(F.col("embedding").alias("e"))

    scan = plain_scan(frame)

    assert scan.columns == ["embedding"]
    assert len(read(scan)) == 450
    assert read(scan) == by_spark(frame)


def test_what_chooses_or_changes_rows_is_left_to_spark(spark, parquet, delta):
    table = spark.read.parquet(parquet)
    items = table.select("item_id")
    frames = {
        "filter": table.where("item_id > 5").select("embedding"),
        "cast": table.select(F.col("embedding").cast("array<double>")),
        "join": table.join(items, on="item_id", how="left_semi").select("embedding"),
        "limit": table.select("embedding").limit(3),
        "union": table.union(table).select("embedding"),
        "partition column": spark.read.format("delta").load(delta).select("version"),
        "no files": spark.createDataFrame([], SCHEMA).select("embedding"),
    }

    assert {name: plain_scan(frame) for name, frame in frames.items()} == dict.fromkeys(frames)


def test_rows_that_a_deletion_vector_hides_are_left_to_spark(spark, delta):
    DeltaTable.forPath(spark, delta).delete("item_id = 7")

    table = spark.read.format("delta").load(delta).select("embedding")

    assert plain_scan(table.where("version = 1")) is None
    assert plain_scan(table) is None


def test_embeddings_that_a_file_lacks_are_null(spark, parquet):
    with pytest.raises(ValueError, match=r"vectors is null in 900 of 900 rows, must be set\."):
        ResidualKMeans(inputCol="vectors").fit(spark.read.schema("vectors array<float>").parquet(parquet))


def test_a_fit_on_files_is_the_fit_on_their_rows(spark, parquet, monkeypatch, small_splits):
    frame, estimator = spark.read.parquet(parquet), ResidualKMeans(numLevels=2, codebookSize=5, maxIter=3)

    by_arrow = estimator.fit(frame)
    monkeypatch.setattr(embedding_files, "plain_scan", lambda _: None)
    by_spark = estimator.fit(frame)

    assert by_arrow.codebooks.tobytes() == by_spark.codebooks.tobytes()


def test_codes_beside_keys_are_those_of_the_model(spark, parquet, rows):
    frame = spark.read.parquet(parquet)
    kmeans = ResidualKMeans(numLevels=2, codebookSize=5, maxIter=1).fit(frame)
    scalar = ResidualKMeansFiniteScalar(numLevels=1, codebookSize=5, maxIter=1, lastLevels=[3, 2]).fit(frame)
    expected = {model: by_spark(model.transform(rows).select("item_id", "rq_codes")) for model in (kmeans, scalar)}

    assert {model: by_spark(codes_beside(model, frame, "item_id")) for model in expected} == expected
    assert by_spark(codes_beside(kmeans, frame.where("item_id >= 0"), "item_id")) == expected[kmeans]
