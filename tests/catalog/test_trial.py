"""The first rows of the user's files are tried, and the trial says what ingest would say of them."""

from __future__ import annotations

import gzip

import pytest

from qarm_features.catalog.reading import first_rows
from qarm_features.catalog.reading.source_rows import IngestError
from qarm_features.catalog.trial import try_sources
from qarm_features.settings.load import load_settings
from tests.catalog.sources import write

ITEMS = "items: {path: items.csv, item_id: sku, item_id_type: string, title: name, text: [name, about]}\n"
LOG = (
    "interactions: {path: log, format: csv, user_id: user, user_id_type: string, item_id: item, event_timestamp: at, "
    "timestamp_unit: seconds, label: liked}\n"
)
CATALOG = "sku,name,about\na0,Lamp,red\na1,Cup,blue\n"
HEADER = "user,item,at,liked\n"


def lines(number, *, start=1_700_000_000):
    return "".join(f"u{row},a{row % 2},{start + row},1\n" for row in range(number))


@pytest.fixture
def tried(spark, tmp_path):
    def try_them(settings=ITEMS + LOG):
        write(tmp_path / "qarm.yaml", settings)
        return try_sources(spark, load_settings(tmp_path / "qarm.yaml"), tmp_path / "copies")

    return try_them


def test_right_files_pass_and_the_first_row_is_shown(tried, tmp_path):
    write(tmp_path / "items.csv", CATALOG)
    write(tmp_path / "log" / "a.csv", HEADER + lines(3))

    trials = tried()

    assert (trials.items.fault, trials.interactions.fault, trials.is_stopped_by_unknown) == ("", "", False)
    assert trials.interactions.source == "all 3 rows were tried"
    assert (trials.interactions.counts.accepted, trials.interactions.rejected) == (3, [])
    assert trials.items.first == {"item_id": "a0", "title": "Lamp", "text": "Lamp. red"}
    assert trials.unknown is not None
    assert (trials.unknown.rows, trials.unknown.rows_in) == (0, 3)


def test_rows_that_ingest_would_reject_are_counted_with_their_own_file_and_line(tried, tmp_path):
    write(tmp_path / "items.csv", CATALOG + ',Pot,green\na3,"never closed,x\n')
    write(tmp_path / "log" / "a.csv", HEADER + lines(3) + "u1,a1,yesterday,1\n")

    trials = tried()

    assert [(one.reason, one.rows) for one in trials.items.rejected] == [
        ("a quoted field is not closed", 1),
        ("item_id is null", 1),
    ]
    assert trials.items.rejected[1].example == f"{tmp_path}/items.csv, line 4: ,Pot,green"
    assert trials.interactions.rejected[0].example == f"{tmp_path}/log/a.csv, line 5: u1,a1,yesterday,1"
    assert trials.items.fault.startswith("2 of 4 rows of items are rejected (50.0%), must be at most 5.0%")
    assert "rejected_rows" not in trials.items.fault  # the trial writes nothing


def test_of_many_large_and_packed_files_the_first_lines_of_some_are_read(tried, tmp_path, monkeypatch):
    monkeypatch.setattr(first_rows, "MAX_ROWS", 10)
    monkeypatch.setattr(first_rows, "MAX_FILES", 3)
    write(tmp_path / "items.csv", CATALOG)
    for day in range(1, 8):
        content = HEADER + lines(100, start=1_700_000_000 + 1000 * day) + "u1,a1,broken,1\n"
        write(tmp_path / "log" / f"day={day}" / f"part{day}.csv.gz", gzip.compress(content.encode()))

    trials = tried(ITEMS + LOG.replace("user_id: user,", "user_id: day,"))

    assert trials.interactions.source == "the first 27 rows of 3 of 7 files were tried"
    assert trials.interactions.counts.accepted == 27  # 9 lines after each header; the broken ones lie further on
    assert trials.interactions.first["user_id"] == "1"  # the folders give it


def test_a_record_that_the_trial_itself_cuts_is_not_called_broken(tried, tmp_path, monkeypatch):
    monkeypatch.setattr(first_rows, "MAX_ROWS", 4)
    write(tmp_path / "items.csv", CATALOG + 'a2,"Pot\nof clay\nand more",x\na3,Pen,x\n')
    write(tmp_path / "log" / "a.csv", HEADER + lines(2))

    trials = tried()

    assert (trials.items.counts.accepted, trials.items.rejected) == (2, [])
    assert trials.items.source == "the first 2 rows were tried"
    assert trials.unknown is None  # what is not among the first rows may stand further on


def test_ids_written_in_two_ways_and_a_wrong_unit_would_stop_the_run(tried, tmp_path):
    write(tmp_path / "items.csv", CATALOG.upper())
    write(tmp_path / "log" / "a.csv", HEADER + lines(3))
    settings = ITEMS.replace("sku", "SKU").replace("name", "NAME").replace("about", "ABOUT") + LOG

    trials = tried(settings)
    assert trials.is_stopped_by_unknown
    assert "if item IDs are compared in lower case" in trials.remedy

    write(tmp_path / "log" / "a.csv", HEADER + lines(3, start=1_700_000_000_000))
    (tmp_path / "copies").rename(tmp_path / "older copies")
    again = tried(settings)
    assert "Set timestamp_unit: milliseconds" in again.interactions.fault


def test_an_error_names_the_file_of_the_user_and_not_its_copy(tried, tmp_path):
    write(tmp_path / "items.csv", CATALOG.replace("sku", "code"))
    write(tmp_path / "log" / "a.csv", HEADER + lines(3))

    with pytest.raises(IngestError, match=rf"no column sku.*The file is {tmp_path}/items\.csv\."):
        tried()


def test_a_parquet_source_is_tried_too(tried, tmp_path, spark, monkeypatch):
    monkeypatch.setattr(first_rows, "MAX_ROWS", 2)
    rows = [("a0", "Lamp", "red"), (None, "Cup", "blue"), ("a2", "Pot", "green")]
    spark.createDataFrame(rows, "sku string, name string, about string").coalesce(1).write.parquet(
        str(tmp_path / "items.parquet")
    )
    write(tmp_path / "log" / "a.csv", HEADER + lines(3))

    trials = tried(ITEMS.replace("items.csv", "items.parquet") + LOG)

    assert trials.items.source == "the first 2 rows were tried"
    assert [(one.reason, one.rows) for one in trials.items.rejected] == [("item_id is null", 1)]
