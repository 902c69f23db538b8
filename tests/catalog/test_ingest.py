"""Every source row is accepted or rejected with a reason."""

from __future__ import annotations

import functools
import json

import pandas as pd
import pytest

from qarm_features.catalog.ingest import IngestError, check_interactions, check_items, read_source
from qarm_features.encoders.media import media_state
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.settings.sources import InteractionSource, ItemSource
from qarm_features.storage.tables import INTERACTIONS, ITEMS, REJECTED_ROWS
from tests.catalog.sources import write_frame
from tests.toy_catalog import open_project, write_toy_project

ITEM_SOURCE = ItemSource(path="x.csv", item_id="sku", title="name", text=["name", "about"])
CLICKS = InteractionSource(
    path="x.csv", event_timestamp="at", timestamp_unit="seconds", label="rating", positive_from=4
)


def rows_of(frame, *columns):
    return sorted(tuple(row[c] for c in columns) for row in frame.collect())


def test_items_are_renamed_typed_and_their_text_is_joined(spark):
    raw = spark.createDataFrame(
        [("1", " Lamp ", "Warm light"), ("2", None, "Plain")], "sku string, name string, about string"
    )

    checked = check_items(raw, ITEM_SOURCE)

    rows = [(r["item_id"], r["title"], r["text"]) for r in checked.accepted.orderBy("item_id").collect()]
    assert rows == [(1, "Lamp", "Lamp. Warm light"), (2, None, "Plain")]
    assert checked.rejected.count() == 0


def test_a_bad_item_is_rejected_with_its_reason_and_as_it_came(spark):
    bad = {
        (None, "Lamp", "Warm"): "item_id is null",
        ("  ", "Lamp", "Warm"): "item_id is null",
        ("1.5", "Lamp", "Warm"): "item_id is not an integer",
        ("99999999999999999999", "Lamp", "Warm"): "item_id does not fit 64 bits",
        ("7", None, "  "): "content is empty",
    }
    raw = spark.createDataFrame([*bad, ("8", "Lamp", "Warm")], "sku string, name string, about string")

    checked = check_items(raw, ITEM_SOURCE)

    assert rows_of(checked.accepted, "item_id") == [(8,)]
    rejected = {tuple(json.loads(r["row"]).values()): (r["table"], r["reason"]) for r in checked.rejected.collect()}
    assert rejected == {row: ("items", reason) for row, reason in bad.items()}


def test_media_and_vectors_become_content_and_each_has_its_own_hash(spark):
    source = ItemSource(
        path="x.parquet", text=["text"], image="image", audio="audio", precomputed="v", precomputed_dim=2
    )
    rows = [
        (1, "a", None, None, None),
        (2, None, None, "a", None),
        (3, " ", bytearray(b"a"), "", [1.0, 2.0]),
        (4, "a", bytearray(b"b"), " a ", [1.0, 2.5]),
        (5, None, bytearray(b""), None, None),
    ]
    raw = spark.createDataFrame(rows, "item_id int, text string, image binary, audio string, v array<double>")

    checked = check_items(raw, source)

    found = {row["item_id"]: row for row in checked.accepted.collect()}
    names = ("text", "image", "image_uri", "audio", "audio_uri", "precomputed")
    assert {item: tuple(row[name] for name in names) for item, row in found.items()} == {
        1: ("a", None, None, None, None, None),
        2: (None, None, None, None, "a", None),
        3: (None, b"a", None, None, None, [1.0, 2.0]),
        4: ("a", b"b", None, None, "a", [1.0, 2.5]),
    }
    assert len({row["content_hash"] for row in found.values()}) == 4
    (rejected,) = checked.rejected.collect()
    assert rejected["reason"] == "content is empty"
    assert json.loads(rejected["row"])["image"] == "0 bytes"


@pytest.mark.parametrize("kind", ["array<double>", "json"])
def test_a_vector_of_another_length_or_with_a_null_is_rejected_with_its_reason(spark, kind):
    source = ItemSource(path="x.csv", text=[], precomputed="v", precomputed_dim=2)
    vectors = [[1.0, 2.0], [1.0], [1.0, None], [1.0, float("nan")], [1.0, 1e300], None, []]
    raw = spark.createDataFrame(list(enumerate(vectors)), "item_id int, v array<double>")
    if kind == "json":
        texts = ["[1, 2.0]", "[1.0]", "[1.0, null]", '[1.0, "NaN"]', "[1.0, 1e300]", " ", "[]", "1 2", '[1, "a"]']
        raw = spark.createDataFrame(list(enumerate(texts)), "item_id int, v string")

    checked = check_items(raw, source)

    assert rows_of(checked.accepted, "item_id", "precomputed") == [(0, [1.0, 2.0])]
    reasons = {json.loads(row["row"])["item_id"]: row["reason"] for row in checked.rejected.collect()}
    no_array = {7: "precomputed is not an array of numbers", 8: "precomputed is not an array of numbers"}
    assert reasons == {
        1: "precomputed does not have 2 numbers",
        2: "precomputed holds a null or a number that is not finite",
        3: "precomputed holds a null or a number that is not finite",
        4: "precomputed holds a null or a number that is not finite",
        5: "content is empty",
        6: "precomputed does not have 2 numbers",
    } | (no_array if kind == "json" else {})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"image": "n"},
            "items.image is n, a column of type int, must be a binary column or a string column of paths or URIs",
        ),
        (
            {"precomputed": "n", "precomputed_dim": 2},
            "items.precomputed is n, a column of type int, must be a column of arrays of numbers or of JSON arrays",
        ),
    ],
)
def test_a_content_column_of_a_wrong_type_is_refused(spark, setting, message):
    raw = spark.createDataFrame([(1, 2)], "item_id int, n int")

    with pytest.raises(IngestError, match=message):
        check_items(raw, ItemSource(path="x.csv", text=[], **setting))


@pytest.mark.parametrize("partitions", [1, 3])
def test_of_duplicate_items_the_same_one_is_kept_whatever_the_partitions(spark, partitions):
    raw = spark.createDataFrame(
        [("1", "Lamp", "A"), ("1", "Lamp", "B"), ("1", "Lamp", "B"), ("1", None, "")],
        "sku string, name string, about string",
    ).repartition(partitions)

    checked = check_items(raw, ITEM_SOURCE)

    assert rows_of(checked.accepted, "text") == [("Lamp. B",)]
    reasons = rows_of(checked.rejected, "reason")
    assert reasons == [
        ("content is empty",),
        ("item_id is a duplicate",),
        ("item_id is a duplicate with other content",),
    ]


def test_a_bad_interaction_is_rejected_with_its_reason(spark):
    bad = {
        (None, "1", "1700000000", "5"): "user_id is null",
        ("7", "x", "1700000000", "5"): "item_id is not an integer",
        ("7", "1", None, "5"): "event_timestamp is null",
        ("7", "1", "yesterday", "5"): "event_timestamp is not a number",
        ("7", "1", "1700000000000", "5"): "event_timestamp is in milliseconds, not in seconds",
        ("7", "1", "1e17", "5"): "event_timestamp is not between 1970 and 2100",
        ("7", "1", "1700000000", None): "label is null",
        ("7", "1", "1700000000", "good"): "label is not a number",
        ("7", "1", "1700000000", "nan"): "label is not a number",
    }
    good = [("8", "1", "1700000000", "5")] * 2
    raw = spark.createDataFrame([*bad, *good], "user_id string, item_id string, at string, rating string")

    checked = check_interactions(raw, CLICKS, item_id_type="integer")

    assert rows_of(checked.accepted, "user_id") == [(8,)]
    rejected = [(tuple(json.loads(r["row"]).values()), r["reason"]) for r in checked.rejected.collect()]
    assert dict(rejected) == {**bad, good[0]: "interaction is a duplicate"}
    assert len(rejected) == 10


def test_whole_numbers_written_as_floats_are_integer_ids(spark):
    source = ItemSource(path="x.csv", item_id="sku", text=["name"])
    for rows, kind in (
        ([("7.0", "a"), ("8", "b"), ("8.5", "c")], "string"),
        ([(7.0, "a"), (8.0, "b"), (8.5, "c")], "double"),
    ):
        checked = check_items(spark.createDataFrame(rows, f"sku {kind}, name string"), source)

        assert rows_of(checked.accepted, "item_id", "text") == [(7, "a"), (8, "b")]
        assert rows_of(checked.rejected, "reason") == [("item_id is not an integer",)]


def test_labels_are_cut_at_positive_from_and_string_ids_stay_strings(spark):
    source = CLICKS.model_copy(update={"user_id_type": "string"})
    raw = spark.createDataFrame(
        [("u1", "a", "10", "4"), ("u1", "b", "10.5", "3.9")], "user_id string, item_id string, at string, rating string"
    )

    checked = check_interactions(raw, source, item_id_type="string")

    rows = [
        (r["user_id"], r["item_id"], r["event_timestamp"].timestamp(), r["label"]) for r in checked.accepted.collect()
    ]
    assert sorted(rows) == [("u1", "a", 10.0, 1), ("u1", "b", 10.5, 0)]


def test_iso_text_is_a_timestamp_and_a_number_without_unit_is_refused(spark):
    source = CLICKS.model_copy(update={"timestamp_unit": "timestamp", "label": None})
    schema = "user_id int, item_id int, at string"
    raw = spark.createDataFrame([(1, 2, "2024-01-01T00:00:10Z"), (1, 2, "soon")], schema)

    checked = check_interactions(raw, source, item_id_type="integer")

    assert [r["event_timestamp"].timestamp() for r in checked.accepted.collect()] == [1704067210.0]
    assert rows_of(checked.rejected, "reason") == [("event_timestamp is not a timestamp",)]
    message = "timestamp_unit is timestamp, must be seconds, milliseconds, .* because the column at has type bigint"
    with pytest.raises(IngestError, match=message):
        check_interactions(
            spark.createDataFrame([(1, 2, 3)], "user_id int, item_id int, at bigint"), source, item_id_type="integer"
        )


def test_a_missing_column_is_named_with_those_present(spark):
    raw = spark.createDataFrame([("1", "Lamp")], "sku string, label string")
    with pytest.raises(
        IngestError, match="The source of items has no column name, about. Present: sku, label. Change items:"
    ):
        check_items(raw, ITEM_SOURCE)


@pytest.mark.parametrize("kind", ["parquet", "delta", "csv", "jsonl", "table"])
def test_every_source_format_gives_the_same_items(spark, tmp_path, kind):
    frame = pd.DataFrame({"sku": ["1", "2"], "name": ["Lamp", 'Big, "red" lamp'], "about": ["Warm", "Café"]})
    frame["poster"] = ["a.jpg", None]
    frame["vector"] = [[1, 2], [3, 4]] if kind != "csv" else ["[1, 2]", "[3,4]"]
    path = str(tmp_path / f"items.{kind}")
    if kind == "table":
        spark.createDataFrame(frame).createOrReplaceTempView("my_items")
    else:
        write_frame(spark, frame, path, kind)
    place = {"table": "my_items"} if kind == "table" else {"path": path, "format": kind}
    source = ItemSource(
        **place,
        item_id="sku",
        title="name",
        text=["name", "about"],
        image="poster",
        precomputed="vector",
        precomputed_dim=2,
    )

    checked = check_items(read_source(spark, source, source.path), source)

    assert rows_of(checked.accepted, "item_id", "text", "image_uri", "precomputed") == [
        (1, "Lamp. Warm", "a.jpg", [1.0, 2.0]),
        (2, 'Big, "red" lamp. Café', None, [3.0, 4.0]),
    ]


@pytest.mark.parametrize(
    ("name", "content", "line", "reason"),
    [
        (
            "items.jsonl",
            '{"sku": 1, "name": "Lamp", "about": "Warm"}\n{"sku": 2, "na\n',
            '{"sku": 2, "na',
            "the line is not a JSON object",
        ),
        (
            "items.csv",
            "sku,name,about\n1,Lamp,Warm\n2,Lamp,Warm,too,many\n",
            "2,Lamp,Warm,too,many",
            "the row has more fields than the header",
        ),
    ],
)
def test_a_line_that_cannot_be_parsed_is_rejected_whole(spark, tmp_path, name, content, line, reason):
    (tmp_path / name).write_text(content)
    source = ItemSource(path=str(tmp_path / name), item_id="sku", title="name", text=["name", "about"])

    checked = check_items(read_source(spark, source, source.path), source)

    (rejected,) = checked.rejected.collect()
    assert rejected["reason"] == reason
    assert (rejected["file"].endswith(name), rejected["line"]) == (True, len(content.splitlines()))
    assert line in rejected["row"]
    assert rows_of(checked.accepted, "item_id") == [(1,)]


def test_20_bad_rows_among_100_good_ones_are_set_aside_and_100_are_left(spark, tmp_path):
    folder = write_toy_project(tmp_path)
    good = pd.DataFrame(
        {"item_id": [str(i) for i in range(100)], "title": [f"title {i}" for i in range(100)], "plot": "a plot"}
    )
    bad = pd.DataFrame(
        [(None, "no id", "x")] * 3 + [("", "blank id", "x")] * 3 + [("1.5", "a float", "x")] * 3 + [("abc", "text", "x")] * 3
        + [("9" * 30, "too big", "x")] * 2 + [(str(i), f"title {i}", "a plot") for i in range(3)]
        + [("200", None, None), ("201", " ", ""), ("202", "", None)],
        columns=["item_id", "title", "plot"],
    )  # fmt: skip
    pd.concat([bad, good]).to_parquet(folder / "catalog" / "items.parquet", index=False)
    context = open_project(folder, spark)

    counts = ingest_catalog(context)

    assert context.warehouse.read(ITEMS).count() == 100
    rejected = context.warehouse.read(REJECTED_ROWS).groupBy("reason").count().collect()
    assert {row["reason"]: row["count"] for row in rejected} == {
        "item_id is null": 6,
        "item_id is not an integer": 6,
        "item_id does not fit 64 bits": 2,
        "item_id is a duplicate": 3,
        "content is empty": 3,
    }
    assert counts[:3] == (120 + 800, 100 + 800, 20)
    assert counts.remark == (
        "rejected_rows: 6 items: item_id is not an integer, 6 items: item_id is null, 3 items: content is empty, "
        "3 items: item_id is a duplicate, 2 items: item_id does not fit 64 bits"
    )
    assert context.warehouse.read(INTERACTIONS).count() == 800


def test_more_rejected_than_allowed_stops_with_the_counts_by_reason_and_keeps_the_old_items(spark, tmp_path):
    folder = write_toy_project(tmp_path)
    context = open_project(folder, spark)
    ingest_catalog(context)
    frame = pd.DataFrame({"item_id": [None, None, None, 1], "title": ["a", "b", "c", ""], "plot": [""] * 4})
    frame.to_parquet(folder / "catalog" / "items.parquet", index=False)

    message = (
        r"4 of 4 rows of items are rejected \(100.0%\), must be at most 50.0%.*item_id is null: 3; content is empty: 1"
    )
    with pytest.raises(IngestError, match=message):
        ingest_catalog(context)

    assert context.warehouse.read(ITEMS).count() == 64


def test_a_file_that_was_replaced_behind_its_uri_has_another_content_hash_and_a_remote_one_the_same(spark, tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    rows = [(1, "a.png"), (2, "gone.png"), (3, "s3://bucket/a.png"), (4, None)]
    raw = spark.createDataFrame([(*row, "text") for row in rows], "sku long, poster string, name string")
    source = ItemSource(path="x.csv", item_id="sku", text=["name"], image="poster")

    def hashes(roots):
        file_state = functools.partial(media_state, roots=roots) if roots else None
        checked = check_items(raw, source, file_state=file_state)
        return {row["item_id"]: row["content_hash"] for row in checked.accepted.collect()}

    without, before = hashes([]), hashes([str(tmp_path)])
    (tmp_path / "a.png").write_bytes(b"newer")
    spark.catalog.clearCache()  # as after every job
    after = hashes([str(tmp_path)])

    assert [item for item in after if after[item] != before[item]] == [1]
    assert [item for item in after if before[item] != without[item]] == [1]
