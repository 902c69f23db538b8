"""A path that exists is that path, and no file in a folder vanishes without a word."""

from __future__ import annotations

import pytest

from qarm_features.catalog.reading.source_rows import IngestError
from tests.catalog.sources import ingest_items, write

ROW = "sku,name,about\n{0},Lamp,x\n"


@pytest.mark.parametrize(
    "name", ["movies[1].csv", "movies{a,b}.csv", "movies*.csv", "movies?.csv", "a b%20c.csv", "a\\b.csv"]
)
def test_a_path_that_exists_is_no_pattern(spark, tmp_path, name):
    write(tmp_path / name, ROW.format("right"))
    for other in ("movies1.csv", "moviesa.csv", "a b c.csv"):
        write(tmp_path / other, ROW.format("wrong"))

    assert ingest_items(spark, tmp_path / name) == ([("right", "Lamp", "Lamp. x")], [])


def test_a_path_that_does_not_exist_is_a_pattern_or_an_error(spark, tmp_path):
    write(tmp_path / "movies1.csv", ROW.format("1"))
    write(tmp_path / "movies2.csv", ROW.format("2"))

    accepted, _ = ingest_items(spark, tmp_path / "movies[0-9].csv")

    assert [item for item, _, _ in accepted] == ["1", "2"]
    with pytest.raises(IngestError, match=r"items.path is .*shows.csv, and there is no such file or folder"):
        ingest_items(spark, tmp_path / "shows.csv")


@pytest.mark.parametrize("name", ["_export.csv", "items/_b.csv", "items/.b.csv", "items/_old/b.csv"])
def test_a_file_that_spark_would_leave_out_is_named(spark, tmp_path, name):
    write(tmp_path / "items" / "a.csv", ROW.format("1"))
    write(tmp_path / name, ROW.format("2"))
    path = tmp_path / name if "/" not in name else tmp_path / "items"

    with pytest.raises(IngestError, match=f"Spark does not read files and folders there.*: .*{name}. Rename"):
        ingest_items(spark, path, format="csv")


def test_marks_of_writers_are_passed_over_and_folders_in_folders_are_read(spark, tmp_path):
    write(tmp_path / "items" / "a.csv", ROW.format("1"))
    write(tmp_path / "items" / "sub" / "c.csv", ROW.format("2"))
    write(tmp_path / "items" / "_SUCCESS", "done")
    write(tmp_path / "items" / ".a.csv.crc", "x")

    accepted, rejected = ingest_items(spark, tmp_path / "items", format="csv")

    assert ([item for item, _, _ in accepted], rejected) == (["1", "2"], [])


def test_a_file_that_spark_cannot_unpack_is_named(spark, tmp_path):
    write(tmp_path / "items" / "a.csv.zip", b"PK")

    with pytest.raises(IngestError, match=r"Spark cannot unpack .*a.csv.zip. Unpack"):
        ingest_items(spark, tmp_path / "items", format="csv")
