"""Only what is new is encoded."""

import pyarrow as pa

from qarm_features.embedding import _rebatch, items_to_embed
from qarm_features.tables import ITEM_EMBEDDINGS, ITEMS
from spark_jobs.embed_items import embed_items
from spark_jobs.ingest_catalog import ingest_catalog


def test_new_changed_and_unseen_items_are_to_be_embedded(spark):
    items = spark.createDataFrame([(1, "a"), (2, "B"), (3, "c")], "item_id int, content_hash string")
    done = [(1, "a", 0), (2, "b", 0), (3, "c", 1)]
    embeddings = spark.createDataFrame(done, "item_id int, content_hash string, encoder_version int")

    new = items_to_embed(items, embeddings, encoder_version=0)

    assert sorted(r["item_id"] for r in new.collect()) == [2, 3]


def test_batches_are_regrouped_without_losing_a_row():
    batches = [
        pa.record_batch({"x": pa.array(range(start, start + size), pa.int64())})
        for start, size in ((0, 3), (3, 1), (4, 7), (11, 0))
    ]

    regrouped = list(_rebatch(iter(batches), 4))

    assert [batch.num_rows for batch in regrouped] == [4, 4, 3]
    assert [value for batch in regrouped for value in batch["x"].to_pylist()] == list(range(11))


def test_a_second_run_embeds_nothing_and_a_changed_item_is_embedded_alone(fresh_project):
    warehouse = fresh_project.warehouse
    ingest_catalog(fresh_project)
    assert embed_items(fresh_project).remark.startswith("64 items embedded")
    before = {r["item_id"]: r["embedding"] for r in warehouse.read(ITEM_EMBEDDINGS).collect()}

    assert embed_items(fresh_project).remark.startswith("0 items embedded")
    assert warehouse.version(ITEM_EMBEDDINGS) == 0

    changed = warehouse.read(ITEMS).replace({"sea part one, a comedy": "x"}, subset="title")
    changed = changed.selectExpr("item_id", "title", "IF(item_id = 0, 'a new text', text) AS text",
                                 "IF(item_id = 0, 'new', content_hash) AS content_hash")  # fmt: skip
    warehouse.overwrite(ITEMS, changed.localCheckpoint())
    assert embed_items(fresh_project).remark.startswith("1 items embedded")
    after = {r["item_id"]: r["embedding"] for r in warehouse.read(ITEM_EMBEDDINGS).collect()}
    assert [item for item in before if before[item] != after[item]] == [0]
