"""Only items with new content are encoded."""

import json

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from qarm_features.embedding.embed_items import _embed_rows, items_to_embed
from qarm_features.embedding.embed_items import embed_items as embed
from qarm_features.embedding.on_executors import regroup, row_as_json
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.jobs.embed_items import embed_items
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEMS, REJECTED_ROWS
from tests.toy_catalog import SETTINGS, open_project, write_toy_project


def test_new_changed_and_unseen_items_are_to_be_embedded(spark):
    items = spark.createDataFrame([(1, "a"), (2, "B"), (3, "c")], "item_id int, content_hash string")
    done = [(1, "a", 0), (2, "b", 0), (3, "c", 1)]
    embeddings = spark.createDataFrame(done, "item_id int, content_hash string, encoder_version int")

    new = items_to_embed(items, embeddings, encoder_version=0)

    assert sorted(r["item_id"] for r in new.collect()) == [2, 3]


def test_chunks_are_disjoint_and_together_all_that_is_to_be_embedded(spark):
    items = spark.range(40).selectExpr("id AS item_id", "'a' AS content_hash")
    done = spark.range(10).selectExpr("id AS item_id", "'a' AS content_hash", "0 AS encoder_version")

    chunks = [items_to_embed(items, done, encoder_version=0, chunk=chunk, num_chunks=3).collect() for chunk in range(3)]

    assert sorted(row["item_id"] for chunk in chunks for row in chunk) == list(range(10, 40))
    assert all(chunks)


def test_batches_are_regrouped_without_losing_a_row():
    batches = [
        pa.record_batch({"x": pa.array(range(start, start + size), pa.int64())})
        for start, size in ((0, 3), (3, 1), (4, 7), (11, 0))
    ]

    by_rows = list(regroup(iter(batches), 4, 1000))
    by_bytes = list(regroup(iter(batches), 4, 24))

    assert [batch.num_rows for batch in by_rows] == [4, 4, 3]
    assert [batch.num_rows for batch in by_bytes] == [3, 1, 3, 3, 1]
    for regrouped in (by_rows, by_bytes):
        assert [value for batch in regrouped for value in batch["x"].to_pylist()] == list(range(11))


def test_a_rejected_row_is_shown_without_its_bytes():
    rows = pa.record_batch(
        {"item_id": [7], "content_hash": ["ab"], "text": [None], "image": [b"123"], "image_uri": ["é.jpg"]}
    )

    assert row_as_json(rows, 0) == '{"item_id": 7, "image": "3 bytes", "image_uri": "é.jpg"}'


def test_a_run_that_dies_keeps_its_commits_a_second_embeds_the_rest_and_a_changed_item_is_embedded_alone(
    tmp_path, spark, monkeypatch
):
    folder = write_toy_project(tmp_path)
    (folder / "qarm.yaml").write_text(SETTINGS + "encoder: {items_per_commit: 40}\n")
    fresh_project = open_project(folder, spark)
    warehouse = fresh_project.warehouse
    ingest_catalog(fresh_project)
    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        dies = lambda *_, **__: (_ for _ in ()).throw(InterruptedError)  # noqa: E731  # a statement is no expression
        patched.setattr("qarm_features.embedding.embed_items.write_rejected", dies)
        embed_items(fresh_project)
    kept = warehouse.read(ITEM_EMBEDDINGS).count()
    assert 0 < kept < 64
    assert embed_items(fresh_project).remark.startswith(f"{64 - kept} items embedded")
    before = {r["item_id"]: r["embedding"] for r in warehouse.read(ITEM_EMBEDDINGS).collect()}

    assert embed_items(fresh_project).remark.startswith("0 items embedded")
    assert warehouse.version(ITEM_EMBEDDINGS) == 1

    changed = warehouse.read(ITEMS).replace({"sea part one, a comedy": "x"}, subset="title")
    changed = changed.withColumn("text", F.expr("IF(item_id = 0, 'a new text', text)"))
    changed = changed.withColumn("content_hash", F.expr("IF(item_id = 0, 'new', content_hash)"))
    warehouse.overwrite(ITEMS, changed.localCheckpoint())
    assert embed_items(fresh_project).remark.startswith("1 items embedded")
    after = {r["item_id"]: r["embedding"] for r in warehouse.read(ITEM_EMBEDDINGS).collect()}
    assert [item for item in before if before[item] != after[item]] == [0]


@pytest.mark.slow
def test_a_second_run_looks_only_at_items_that_came_or_changed_until_one_is_rejected(fresh_project, caplog):
    warehouse = fresh_project.warehouse
    ingest_catalog(fresh_project)
    embed_items(fresh_project)
    row = warehouse.read(ITEMS).where("item_id = 0").localCheckpoint()

    def item(item_id: int, text: str | None):
        return row.withColumns(
            {"item_id": F.lit(item_id), "text": F.lit(text).cast("string"), "content_hash": F.lit(f"hash of {text}")}
        )

    def run() -> tuple:
        caplog.clear()
        with caplog.at_level("INFO", "qarm_features.jobs"):
            counts = embed_items(fresh_project)
        embedded = counts.remark.partition(" items")[0]
        return int(embedded), counts[:3], [r.getMessage() for r in caplog.records if ", because " in r.getMessage()]

    warehouse.append(ITEMS, item(1000, "a new item"))
    warehouse.upsert(ITEMS, item(0, "another text").unionByName(item(1001, "one more")))
    added = run()
    again = run()
    warehouse.append(ITEMS, item(1002, None))
    rejected = run()
    tried_again = run()

    assert added == (3, (66, 66, 0), [])
    assert again == (0, (66, 66, 0), [])
    assert rejected == (0, (67, 66, 1), [])
    why = "embed-items looks at all items, because 1 items could not be embedded, which is tried again"
    assert tried_again == (0, (67, 66, 1), [why])
    hashes = {r["item_id"]: r["content_hash"] for r in warehouse.read(ITEM_EMBEDDINGS).collect()}
    assert hashes[0] == "hash of another text" and hashes[1000] == "hash of a new item" and len(hashes) == 66
    rejections = warehouse.read(REJECTED_ROWS).where("`table` = 'item_embeddings'").collect()
    assert [json.loads(r["row"])["item_id"] for r in rejections] == [1002]


def test_items_with_the_same_content_are_encoded_once_and_have_equal_embeddings(project, monkeypatch):
    encoder = ItemEncoder.from_pretrained(project.artifacts("encoders").get(0).path)
    encoded, encode = [], encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda columns, **how: encoded.append(columns) or encode(columns, **how))
    texts = ["milk, 1 l", "bread", None, "milk, 1 l", None, "milk, 1 l"]
    rows = pa.record_batch(
        {"item_id": range(6), "content_hash": ["m", "b", "n", "m", "n", "m"], "text": pa.array(texts, pa.string())}
    )

    embedded = _embed_rows(encoder, rows, 8).to_pylist()

    assert encoded == [{"text": ["milk, 1 l", "bread", None]}]
    assert [row["item_id"] for row in embedded] == [0, 1, 2, 3, 4, 5]
    assert embedded[0]["embedding"] == embedded[3]["embedding"] == embedded[5]["embedding"]
    assert embedded[0]["embedding"] != embedded[1]["embedding"]
    assert [row["item_id"] for row in embedded if row["reason"]] == [2, 4]
    assert [row["row"] for row in embedded if row["reason"]] == ['{"item_id": 2}', '{"item_id": 4}']


@pytest.mark.slow
def test_items_with_the_same_text_come_one_after_the_other_on_the_executors(project, spark):
    items = project.warehouse.read(ITEMS)
    twice = items.unionByName(items.withColumn("item_id", F.col("item_id") + 1000))

    embedded = embed(twice, project.artifacts("encoders").get(0), limits={}, batch_size=8, rows=128).collect()

    by_content = {}
    for row in embedded:
        by_content.setdefault(row["content_hash"], []).append((row["item_id"], row["embedding"]))
    assert len(embedded) == 128
    for (first, embedding), (second, other) in (sorted(rows) for rows in by_content.values()):
        assert second == first + 1000
        assert embedding == other
