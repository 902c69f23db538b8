"""Parquet as other writers leave it."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qarm_features.catalog.reading.source_rows import IngestError
from tests.catalog.sources import ingest_items, ingest_log, write, write_frame


def log_frame(**columns):
    return pd.DataFrame({"user": ["u"], "item": ["i"], "at": [10], "rating": [5], **columns})


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_timestamps_in_nanoseconds_are_read(spark, tmp_path, zone):
    stamps = pd.Series(pd.to_datetime([1_700_000_000_123_456_789, -1_500, None], utc=True)).astype(
        "datetime64[ns, UTC]"
    )
    stamps = stamps if zone else stamps.dt.tz_localize(None)
    frame = pd.DataFrame({"user": list("abc"), "item": list("xyz"), "at": stamps, "rating": 5, "seen": stamps})
    frame.to_parquet(tmp_path / "log.parquet")
    assert "nanoseconds" in str(pq.ParquetFile(tmp_path / "log.parquet").schema)

    accepted, rejected = ingest_log(spark, tmp_path / "log.parquet", timestamp_unit="timestamp")

    assert accepted == [("a", "x", 1_700_000_000, 1)]
    assert sorted(reason for _, _, reason in rejected) == [
        "event_timestamp is not between 1970 and 2100",
        "event_timestamp is null",
    ]


def test_files_of_nanoseconds_and_microseconds_are_read_side_by_side(spark, tmp_path):
    for name, unit in (("a", "ns"), ("b", "us"), ("c", "ms")):
        at = pd.to_datetime([1_700_000_000], unit="s").astype(f"datetime64[{unit}]")
        frame = log_frame(user=[name], at=at)
        (tmp_path / "log").mkdir(exist_ok=True)
        frame.to_parquet(tmp_path / "log" / f"{name}.parquet")

    accepted, rejected = ingest_log(spark, tmp_path / "log", format="parquet", timestamp_unit="timestamp")

    assert accepted == [(user, "i", 1_700_000_000, 1) for user in "abc"]
    assert rejected == []


def test_a_column_that_one_file_lacks_is_named(spark, tmp_path):
    (tmp_path / "log").mkdir()
    log_frame().to_parquet(tmp_path / "log" / "a.parquet")
    log_frame().rename(columns={"rating": "stars"}).to_parquet(tmp_path / "log" / "b.parquet")

    with pytest.raises(
        IngestError, match=r"b.parquet has no column rating, which other files .*\(1 of 2 files lack it\)"
    ):
        ingest_log(spark, tmp_path / "log", format="parquet")


def test_numbers_of_different_types_are_read_and_other_types_are_refused(spark, tmp_path):
    (tmp_path / "log").mkdir()
    log_frame().to_parquet(tmp_path / "log" / "a.parquet")
    log_frame(user=["v"], rating=[3.0], at=[20.0]).to_parquet(tmp_path / "log" / "b.parquet")
    log_frame(user=["w"], rating=pd.Series([None], dtype=object)).to_parquet(tmp_path / "log" / "c.parquet")

    accepted, rejected = ingest_log(spark, tmp_path / "log", format="parquet")

    assert accepted == [("u", "i", 10, 1), ("v", "i", 20, 0)]
    assert rejected == [("c.parquet", None, "label is null")]
    log_frame(rating=["good"]).to_parquet(tmp_path / "log" / "d.parquet")
    with pytest.raises(
        IngestError, match="The column rating of interactions has type .* in .*parquet and .* in .*parquet"
    ):
        ingest_log(spark, tmp_path / "log", format="parquet")


def test_a_delta_table_is_not_read_as_parquet(spark, tmp_path):
    path = str(tmp_path / "log")
    spark.createDataFrame(log_frame()).write.format("delta").save(path)

    with pytest.raises(
        IngestError, match="interactions.path is .*log, a Delta table. Set interactions.format to delta"
    ):
        ingest_log(spark, path, format="parquet")
    assert ingest_log(spark, path, format="delta")[0] == [("u", "i", 10, 1)]


def test_a_file_that_is_cut_off_is_named(spark, tmp_path):
    log_frame().to_parquet(tmp_path / "log.parquet")
    write(tmp_path / "log.parquet", (tmp_path / "log.parquet").read_bytes()[:-10])

    with pytest.raises(IngestError, match=r"log.parquet cannot be read as Parquet"):
        ingest_log(spark, tmp_path / "log.parquet")


def test_text_that_is_not_utf8_is_rejected(spark, tmp_path):
    names = pa.array([b"Lamp", b"caf\xe9"]).view(pa.string())
    table = pa.table({"sku": ["1", "2"], "name": names, "about": ["x", "y"]})
    pq.write_table(table, tmp_path / "items.parquet", store_schema=False)

    accepted, rejected = ingest_items(spark, tmp_path / "items.parquet")

    assert accepted == [("1", "Lamp", "Lamp. x")]
    assert rejected == [("items.parquet", None, "the text of name is not valid UTF-8")]


def test_folders_give_columns_that_the_files_lack(spark, tmp_path):
    for at in (10, 20):
        folder = tmp_path / "log" / f"at={at}"
        folder.mkdir(parents=True)
        log_frame().drop(columns="at").to_parquet(folder / "a.parquet")

    accepted, _ = ingest_log(spark, tmp_path / "log", format="parquet")

    assert accepted == [("u", "i", 10, 1), ("u", "i", 20, 1)]


@pytest.mark.parametrize("kind", ["parquet", "delta", "csv", "jsonl"])
def test_columns_may_have_any_name(spark, tmp_path, kind):
    names = {"user": "who`s", "item": "an.item", "at": "at; now", "rating": "my rating"}
    frame = log_frame(**{"we`ird": ["x"]}).rename(columns=names)
    path = tmp_path / f"log.{kind}"
    write_frame(spark, frame, path, kind, **{"delta.columnMapping.mode": "name"})

    accepted, rejected = ingest_log(
        spark, path, format=kind, user_id="who`s", item_id="an.item", event_timestamp="at; now", label="my rating"
    )

    assert (accepted, rejected) == ([("u", "i", 10, 1)], [])
