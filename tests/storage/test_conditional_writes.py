"""A row of one key is written once, whoever else writes the table at the same time. No lock takes part in these tests."""

from __future__ import annotations

import threading

import pytest

from qarm_features.storage.conditional_writes import ChangedMeanwhile
from qarm_features.storage.tables import ITEM_EMBEDDINGS, REJECTED_ROWS, Table
from qarm_features.storage.warehouse import Warehouse

PART = {"encoder_version": 0}
SCHEMA = "item_id int, embedding array<double>, content_hash string, encoder_version int"


def at_once(*calls) -> list[BaseException]:
    """Runs functions in threads of their own and returns what they raised."""
    raised = []

    def run(call):
        try:
            call()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def meeting(monkeypatch, name: str, parties: int = 2) -> None:
    """Lets the writers meet at a method of ``Warehouse``: the first call of each thread waits for those of the others."""
    barrier, seen, method = threading.Barrier(parties), set(), getattr(Warehouse, name)

    def waiting(self, *args, **kwargs):
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            barrier.wait(timeout=120)
        return method(self, *args, **kwargs)

    monkeypatch.setattr(Warehouse, name, waiting)


def open_warehouse(root, spark) -> Warehouse:
    """Opens the tables as a process of its own would: with its own Spark session."""
    return Warehouse(str(root), item_id_type="integer", user_id_type="string", spark=spark.newSession())


def contents(warehouse: Warehouse, table: Table) -> list:
    return sorted(map(str, warehouse.arrow(table).to_table().to_pylist()))


def test_rows_are_appended_only_to_the_rows_that_they_were_computed_from(tmp_path, spark):
    one, other = open_warehouse(tmp_path, spark), open_warehouse(tmp_path, spark)
    rows = spark.createDataFrame([(1, [0.5], "a", 0)], SCHEMA)
    elsewhere = spark.createDataFrame([(1, [0.5], "a", 7)], SCHEMA)
    told = "Another process wrote rows of item_embeddings with encoder_version = 0 while this one computed its own"

    for _ in range(2):  # before there is a table, and after
        mine, others = one.base(ITEM_EMBEDDINGS, PART), other.base(ITEM_EMBEDDINGS, PART)
        one.append(ITEM_EMBEDDINGS, rows, base=mine)
        with pytest.raises(ChangedMeanwhile, match=told):
            other.append(ITEM_EMBEDDINGS, rows, base=others)
    mine = one.base(ITEM_EMBEDDINGS, PART)
    other.append(ITEM_EMBEDDINGS, elsewhere, base=other.base(ITEM_EMBEDDINGS, {"encoder_version": 7}))
    one.append(ITEM_EMBEDDINGS, rows, base=mine)  # another part is of no concern

    versions = one.arrow(ITEM_EMBEDDINGS).to_table(["encoder_version"]).to_pydict()["encoder_version"]
    assert sorted(versions) == [0, 0, 0, 7]
    assert one.read_base(ITEM_EMBEDDINGS, mine).count() == 2


def test_upserts_at_once_write_a_key_once_whether_or_not_there_is_a_table(tmp_path, spark, monkeypatch):
    one, other = open_warehouse(tmp_path, spark), open_warehouse(tmp_path, spark)
    first = [(1, [0.5], "a", 0), (2, [0.5], "b", 0)]
    second = [(2, [0.5], "B", 0), (3, [0.5], "c", 0)]
    expected = {1: "a", 2: "b", 3: "c"}

    for rows in (first, second):
        with monkeypatch.context() as patched:
            meeting(patched, "_upsert")
            calls = [
                lambda w=w, rows=rows: w.upsert(ITEM_EMBEDDINGS, w.spark.createDataFrame(rows, SCHEMA), part=PART)
                for w in (one, other)
            ]
            assert at_once(*calls) == []

    found = one.arrow(ITEM_EMBEDDINGS).to_table(["item_id", "content_hash"]).to_pylist()
    assert sorted((row["item_id"], row["content_hash"]) for row in found) == sorted((expected | {2: "B"}).items())


def test_missing_rows_are_appended_once_by_writers_at_once_and_rows_that_stand_there_stay(tmp_path, spark, monkeypatch):
    one, other = open_warehouse(tmp_path, spark), open_warehouse(tmp_path, spark)
    first = spark.createDataFrame([(1, [0.5], "a", 0), (1, [0.5], "a", 7)], SCHEMA)
    one.append_missing(ITEM_EMBEDDINGS, first.where("encoder_version = 0"), part=PART)
    one.append_missing(ITEM_EMBEDDINGS, first.where("encoder_version = 7"), part={"encoder_version": 7})
    meeting(monkeypatch, "append")

    raised = at_once(
        *(
            lambda warehouse=warehouse, mine=mine: warehouse.append_missing(
                ITEM_EMBEDDINGS,
                warehouse.spark.createDataFrame(
                    [(1, [9.0], "b", 0), (2, [0.5], "a", 0), (mine, [0.5], "a", 0)], SCHEMA
                ),
                part=PART,
            )
            for warehouse, mine in ((one, 3), (other, 4))
        )
    )
    version = one.version(ITEM_EMBEDDINGS)
    one.append_missing(ITEM_EMBEDDINGS, first.where("encoder_version = 0"), part=PART)

    rows = sorted(
        (row["encoder_version"], row["item_id"], row["content_hash"])
        for row in one.arrow(ITEM_EMBEDDINGS).to_table().to_pylist()
    )
    assert raised == []
    assert rows == [(0, 1, "a"), (0, 2, "a"), (0, 3, "a"), (0, 4, "a"), (7, 1, "a")]
    assert one.version(ITEM_EMBEDDINGS) == version


def test_rows_without_a_key_are_told_apart_by_named_columns(tmp_path, spark):
    warehouse = open_warehouse(tmp_path, spark)
    rows = spark.createDataFrame(
        [("items", "{}", "empty"), ("items", "{}", "long")], "table string, row string, reason string"
    )
    how = {"part": {"table": "items"}, "key": ("table", "row", "reason"), "replace": False}

    warehouse.upsert(REJECTED_ROWS, rows.limit(1), **how)
    warehouse.upsert(REJECTED_ROWS, rows, **how)
    warehouse.upsert(REJECTED_ROWS, rows.limit(0), **how)

    assert [row["reason"] for row in warehouse.arrow(REJECTED_ROWS).to_table().sort_by("reason").to_pylist()] == [
        "empty",
        "long",
    ]
