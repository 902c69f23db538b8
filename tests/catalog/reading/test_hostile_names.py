"""Columns of sources may have any name: used or not, in all formats. Names that ingest needs for itself are refused."""

from __future__ import annotations

import pandas as pd
import pytest

from qarm_features.catalog.reading.source_rows import PRIVATE, IngestError
from qarm_features.storage.sql_names import CASE_SENSITIVE
from tests.catalog.sources import ingest_items, write, write_frame

UNUSED = (
    "we`ird", "`", "x.y", "_corrupt_record", "_raw", "_row", "_reason", "_said", "file", "line", "table", "row", "sku.name",
    "ünï", "it's", "per%cent", "#1", "_metadata",
)  # fmt: skip
NOT_IN_DELTA = ("SKU", "Name", "A", "a", "NAME", "a b", "c,d", "e;f", "{g}", "(h)", "i=j", "k\tl")


@pytest.fixture(autouse=True)
def _case_as_before(spark):
    yield
    spark.conf.set(CASE_SENSITIVE, "false")


def rows(names):
    nested = [{"si.ze": "L", "co`lor": "red", "A": "1", "a": "2"}]
    return pd.DataFrame(
        {"sku": ["1"], "name": ["Lamp"], "about": ["x"], **{name: [f"<{name}>"] for name in names}}
    ), nested


@pytest.mark.parametrize("kind", ["parquet", "delta", "csv", "jsonl"])
def test_columns_of_hostile_names_are_read_and_left_alone(spark, tmp_path, kind):
    names = UNUSED if kind == "delta" else (*UNUSED, *NOT_IN_DELTA)
    frame, nested = rows(names)
    if kind in ("parquet", "jsonl"):
        frame["nest.ed"] = nested
    path = tmp_path / f"items.{kind}"
    write_frame(spark, frame, path, kind)
    used = [*names, "nest.ed"] if "nest.ed" in frame else list(names)

    accepted, rejected = ingest_items(spark, path, format=kind, title="we`ird", text=used)

    nested_text = ["A: 1, a: 2, co`lor: red, si.ze: L"] if "nest.ed" in frame else []
    assert accepted == [("1", "<we`ird>", ". ".join([*[f"<{name}>" for name in names], *nested_text]))]
    assert rejected == []


def test_a_rejected_row_keeps_columns_of_hostile_names(spark, tmp_path):
    frame, _ = rows((*UNUSED, *NOT_IN_DELTA))
    frame["sku"] = None
    frame.to_parquet(tmp_path / "items.parquet")

    accepted, rejected = ingest_items(spark, tmp_path / "items.parquet")

    assert accepted == []
    assert rejected == [("items.parquet", None, "item_id is null")]


@pytest.mark.parametrize("name", [*PRIVATE, PRIVATE[0].upper()])
def test_a_column_with_a_name_that_ingest_needs_is_refused(spark, tmp_path, name):
    frame, _ = rows((name,))
    frame.to_parquet(tmp_path / "items.parquet")
    line = '{"sku": "1", "name": "x", "about": "y", "' + name + '": "z"}'
    lines = write(tmp_path / "items.jsonl", line)

    with pytest.raises(
        IngestError, match=f"source of items has the column {name}, a name that ingest needs for itself"
    ):
        ingest_items(spark, tmp_path / "items.parquet")
    with pytest.raises(IngestError, match=f"source of items has the column {name}"):
        ingest_items(spark, lines, title=name)


def test_a_column_that_some_files_write_in_other_capitals_is_named(spark, tmp_path):
    for number, name in enumerate(("name", "NAME")):
        frame, _ = rows(())
        (tmp_path / "items").mkdir(exist_ok=True)
        frame.rename(columns={"name": name}).to_parquet(tmp_path / "items" / f"{number}.parquet")

    with pytest.raises(IngestError, match="has no column name, which other files of items.path have"):
        ingest_items(spark, tmp_path / "items", format="parquet")
