"""Rows that a deletion vector marks as deleted stand in the files still. No reader of ours sees them."""

from __future__ import annotations

import shutil

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from qarm_features.catalog.ingest import read_source
from qarm_features.item_pairs.item_vectors import read_item_vectors
from qarm_features.jobs.train_ranking_model import train_ranking_model
from qarm_features.jobs.write_report import write_report
from qarm_features.quantizers import ResidualKMeans
from qarm_features.ranking.data.batches import TrainingRows
from qarm_features.ranking.data.item_vocabulary import item_vocabulary
from qarm_features.settings.sources import ItemSource
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS, ITEMS, TABLES, TRAINING_ROWS
from qarm_features.storage.warehouse import TableError, Warehouse
from tests.toy_catalog import open_project


def delete(spark, path: str, where: str) -> None:
    """Deletes rows by a deletion vector, without a rewrite of their file."""
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('delta.enableDeletionVectors' = true)")
    spark.sql(f"DELETE FROM delta.`{path}` WHERE {where}")


@pytest.fixture
def copied(project, tmp_path, spark):
    """A copy of the toy project after all jobs, whose tables may be changed."""
    folder = project.settings.feature_repo_path.parent
    shutil.copytree(folder, tmp_path / "copy")
    return open_project(tmp_path / "copy", spark)


@pytest.fixture
def five_left(spark, tmp_path):
    """A warehouse with 5 semantic IDs, of items 5 to 9, after items 0 to 4 were deleted."""
    warehouse = Warehouse(str(tmp_path), item_id_type="integer", user_id_type="integer", spark=spark)
    codes = "id AS item_id", "array(1, 2) AS rq_codes", "0 AS codebook_version", "0 AS encoder_version"
    rows = spark.range(10).selectExpr(*codes, "timestamp'1970-01-01' AS event_timestamp").coalesce(1)
    warehouse.append(ITEM_SEMANTIC_IDS, rows)
    delete(spark, warehouse.path(ITEM_SEMANTIC_IDS), "item_id < 5")
    return warehouse


def test_arrow_and_the_files_hold_no_deleted_row(five_left):
    files = five_left.files(ITEM_SEMANTIC_IDS, codebook_version=0)
    in_files = sorted(pq.read_table(files, partitioning=None)["item_id"].to_pylist())
    in_arrow = sorted(five_left.arrow(ITEM_SEMANTIC_IDS).to_table()["item_id"].to_pylist())

    assert in_files == in_arrow == [5, 6, 7, 8, 9]


def test_arrow_reads_the_version_before_the_rows_were_deleted(five_left):
    assert five_left.arrow(ITEM_SEMANTIC_IDS, version=0).count_rows() == 10


@pytest.mark.parametrize("read", [Warehouse.files, Warehouse.arrow])
def test_a_reader_without_spark_refuses_deleted_rows_and_names_the_remedy(five_left, read):
    alone = Warehouse(five_left.root, item_id_type="integer", user_id_type="integer")

    with pytest.raises(
        TableError, match=r"Version 2 of item_semantic_ids has deleted rows.* REORG TABLE delta\.`.*` APPLY \(PURGE\)"
    ):
        read(alone, ITEM_SEMANTIC_IDS)

    five_left.files(ITEM_SEMANTIC_IDS)
    assert alone.arrow(ITEM_SEMANTIC_IDS).count_rows() == 5
    assert len(alone.files(ITEM_SEMANTIC_IDS)) == 1


def test_arrow_refuses_a_pinned_version_with_deleted_rows(five_left):
    five_left.append(ITEM_SEMANTIC_IDS, five_left.read(ITEM_SEMANTIC_IDS))

    with pytest.raises(TableError, match=r"Version 2 of item_semantic_ids has deleted rows"):
        five_left.arrow(ITEM_SEMANTIC_IDS, version=2)


@pytest.mark.parametrize("read", [Warehouse.files, Warehouse.arrow])
def test_files_whose_columns_have_other_names_are_refused(five_left, spark, read):
    path = five_left.path(ITEM_SEMANTIC_IDS)
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')")

    with pytest.raises(TableError, match=r"Table item_semantic_ids has delta.columnMapping.mode = name, must be none"):
        read(five_left, ITEM_SEMANTIC_IDS)


@pytest.mark.slow
def test_no_reader_of_any_table_sees_a_deleted_row(copied, spark):
    tables = [table for table in TABLES if copied.warehouse.exists(table) and copied.warehouse.read(table).count()]
    for table in tables:
        key = table.key[0]
        delete(spark, copied.warehouse.path(table), f"pmod(hash(`{key}`), 3) = 0")

    for table in tables:
        left = copied.warehouse.read(table).count()
        assert copied.warehouse.arrow(table).count_rows() == left > 0, table.name
        assert ds.dataset(copied.warehouse.files(table)).count_rows() == left, table.name
    assert {ITEMS, ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS, TRAINING_ROWS} <= set(tables)


@pytest.mark.slow
def test_a_ranking_model_is_trained_on_no_deleted_row(copied, spark):
    delete(spark, copied.warehouse.path(TRAINING_ROWS), "user_id < 20")
    left = copied.warehouse.read(TRAINING_ROWS).where("split = 'train'").count()

    train_ranking_model(copied)

    files = copied.warehouse.files(TRAINING_ROWS, codebook_version=0, split="train")
    rows = TrainingRows(files, item_vocabulary(files), num_levels=2, batch_size=64, behavior_length=8)
    newest = copied.artifacts("ranking_models").latest()
    assert rows.num_rows == left
    assert newest.version == 3
    assert (
        newest.manifest["metrics"]["test"]["rows"]
        == copied.warehouse.read(TRAINING_ROWS).where("split = 'test'").count()
    )


@pytest.mark.slow
def test_the_report_shows_no_deleted_item(copied, spark):
    for table in (ITEMS, ITEM_SEMANTIC_IDS):
        delete(spark, copied.warehouse.path(table), "item_id < 16")

    write_report(copied)

    page = (copied.settings.artifacts_path / "report" / "report.html").read_text()
    assert "sea part one" not in page
    assert "space part one" in page


@pytest.mark.slow
def test_a_fit_reads_no_deleted_row(spark, tmp_path):
    rows = [(i, [-1.0, 0.0] if i < 8 else [float(i % 2), float(i % 2 == 0)]) for i in range(16)]
    spark.createDataFrame(rows, "item_id long, embedding array<float>").coalesce(1).write.format("delta").save(
        str(tmp_path / "t")
    )
    delete(spark, str(tmp_path / "t"), "item_id < 8")

    left = spark.read.format("delta").load(str(tmp_path / "t"))
    model = ResidualKMeans(inputCol="embedding", numLevels=1, codebookSize=2, maxIter=2, seed=0).fit(left)

    assert sorted(model.codebooks[0].tolist()) == [[0, 1], [1, 0]]


def test_a_source_of_the_users_is_read_without_its_deleted_rows(spark, tmp_path):
    path = str(tmp_path / "catalog")
    spark.range(10).selectExpr("id AS item_id", "'a text' AS text").coalesce(1).write.format("delta").save(path)
    delete(spark, path, "item_id < 4")

    rows = read_source(spark, ItemSource(path=path, format="delta", text=["text"]), path)

    assert sorted(row["item_id"] for row in rows.collect()) == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("kind", ["delta", "parquet"])
def test_item_vectors_of_the_users_are_read_without_deleted_rows(spark, tmp_path, kind):
    path = str(tmp_path / ("vectors.parquet" if kind == "parquet" else "vectors"))
    rows = spark.range(10).selectExpr("id AS item_id", "array(1.0D, double(id)) AS vector").coalesce(1)
    rows.where("id >= 4" if kind == "parquet" else "true").write.format(kind).save(path)
    if kind == "delta":
        delete(spark, path, "item_id < 4")

    vectors = read_item_vectors(spark, path).collect()

    assert sorted(row["item_id"] for row in vectors) == [4, 5, 6, 7, 8, 9]
