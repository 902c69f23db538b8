"""Tables keep their schema, and every write is one commit."""

import pytest

from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEMS
from qarm_features.storage.warehouse import TableError, Warehouse


@pytest.fixture
def warehouse(tmp_path, spark):
    return Warehouse(str(tmp_path), item_id_type="integer", user_id_type="string", spark=spark)


def embeddings(spark, *rows):
    return spark.createDataFrame(rows, "item_id int, embedding array<double>, content_hash string, encoder_version int")


def test_rows_take_the_tables_order_and_types(warehouse, spark):
    rows = spark.createDataFrame(
        [("h", "a text", 7, "Lamp")], "content_hash string, text string, item_id int, title string"
    )

    warehouse.overwrite(ITEMS, warehouse.empty(ITEMS).unionByName(rows, allowMissingColumns=True))

    assert warehouse.read(ITEMS).dtypes == [
        ("item_id", "bigint"),
        ("title", "string"),
        ("text", "string"),
        ("image", "binary"),
        ("image_uri", "string"),
        ("audio", "binary"),
        ("audio_uri", "string"),
        ("precomputed", "array<float>"),
        ("content_hash", "string"),
    ]
    assert warehouse.version(ITEMS) == 0


def test_an_upsert_replaces_rows_of_the_same_key_alone_in_one_commit(warehouse, spark):
    warehouse.upsert(ITEM_EMBEDDINGS, embeddings(spark, (1, [0.0], "a", 0), (2, [0.0], "b", 0), (1, [0.5], "a", 1)))

    warehouse.upsert(ITEM_EMBEDDINGS, embeddings(spark, (1, [1.0], "A", 0), (3, [0.0], "c", 0)))

    rows = [(r["item_id"], r["encoder_version"], r["content_hash"]) for r in warehouse.read(ITEM_EMBEDDINGS).collect()]
    assert sorted(rows) == [(1, 0, "A"), (1, 1, "a"), (2, 0, "b"), (3, 0, "c")]
    assert warehouse.version(ITEM_EMBEDDINGS) == 1
    assert warehouse.read(ITEM_EMBEDDINGS, version=0).count() == 3


def test_files_of_one_partition_and_arrow_are_read_without_spark(warehouse, spark, tmp_path):
    warehouse.append(ITEM_EMBEDDINGS, embeddings(spark, (1, [0.0], "a", 0), (1, [0.5], "a", 1)))
    without_spark = Warehouse(str(tmp_path), item_id_type="integer", user_id_type="string")

    files = without_spark.files(ITEM_EMBEDDINGS, encoder_version=1)

    assert len(files) == 1
    assert "encoder_version=1" in files[0]
    assert without_spark.arrow(ITEM_EMBEDDINGS).to_table(["embedding"]).num_rows == 2


def test_a_missing_table_says_which_job_makes_it(warehouse):
    assert warehouse.version(ITEMS) is None
    with pytest.raises(TableError, match="Table items does not exist in .* Run: qarm ingest-catalog"):
        warehouse.read(ITEMS)


def test_a_warehouse_without_a_session_says_that_dataframes_need_one(tmp_path):
    warehouse = Warehouse(str(tmp_path), item_id_type="integer", user_id_type="string")

    with pytest.raises(TableError, match="was opened without a Spark session. .* pass spark= to Warehouse"):
        warehouse.empty(ITEMS)


def test_a_missing_column_is_named(warehouse, spark):
    with pytest.raises(
        TableError, match="Rows for item_embeddings lack embedding, encoder_version. Present: item_id, "
    ):
        warehouse.overwrite(ITEM_EMBEDDINGS, spark.createDataFrame([(1, "a")], "item_id int, content_hash string"))
