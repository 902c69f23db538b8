"""Files that were added are read alone, and the tables are those of a run over all files; else all files are read."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.storage.tables import INTERACTIONS, ITEMS, REJECTED_ROWS
from tests.following.followed import FollowedProject, clicks_of, items_of, written_project

FIRST = [
    ("a.parquet", items_of([64, 64, None]), "items"),
    ("a.parquet", clicks_of((3, 64, 1, 5), (None, 1, 1, 5)), "log"),
]
LATER = [
    ("b.parquet", items_of([70, 71, 71, None]), "items"),
    ("b.parquet", clicks_of((3, 70, 2, 5), (3, 999, 3, 1), (3, 999, 3, 1), (None, 1, 5, 5)), "log"),
]


def project(folder: Path, spark, *files) -> FollowedProject:
    """Returns a project of 64 items and of more files, before any job has run."""
    made = FollowedProject(written_project(folder), spark)
    add(made, *files)
    return made


def add(made: FollowedProject, *files) -> None:
    for name, frame, to in files:
        made.add(name, frame, to=to)


def tables(made: FollowedProject) -> dict:
    """Returns the rows of the tables of ingest, without the place of the project."""
    found = {table.name: made.rows(table) for table in (ITEMS, INTERACTIONS, REJECTED_ROWS)}
    for row in found[REJECTED_ROWS.name]:
        row["file"] = Path(row["file"]).name
    return found


def ingest(made: FollowedProject, caplog):
    """Runs the job, and returns its counts and why it read all files, or None."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "qarm_features.jobs"):
        counts = ingest_catalog(made.context)
    told = [record.getMessage() for record in caplog.records if "reads all files" in record.getMessage()]
    return counts, told[0].partition("because ")[2] if told else None


@pytest.mark.slow
def test_added_files_are_read_alone_and_the_tables_are_those_of_a_run_over_all_files(tmp_path, spark, caplog):
    grown, whole = project(tmp_path / "grown", spark, *FIRST), project(tmp_path / "whole", spark, *FIRST, *LATER)
    assert ingest(grown, caplog)[1] == "no earlier run is recorded"
    add(grown, *LATER)

    counts, reason = ingest(grown, caplog)

    expected, _ = ingest(whole, caplog)
    assert reason is None
    assert counts[:3] == expected[:3]
    assert "2 items of 1 new files were added; 2 interactions of 1 new files were added" in counts.remark
    assert "name 1 items that the catalog lacks" in counts.remark
    assert tables(grown) == tables(whole)


@pytest.mark.slow
def test_a_changed_item_lets_the_catalog_alone_be_read_again(tmp_path, spark, caplog):
    changed = ("b.parquet", items_of([5, 70, None], title="another title"), "items")
    clicks = ("b.parquet", clicks_of((3, 70, 2, 5), (None, 1, 5, 5)), "log")
    grown = project(tmp_path / "grown", spark, *FIRST)
    whole = project(tmp_path / "whole", spark, *FIRST, changed, clicks)
    ingest(grown, caplog)
    log_before = grown.context.warehouse.files(INTERACTIONS)
    add(grown, changed, clicks)

    counts, reason = ingest(grown, caplog)

    expected, _ = ingest(whole, caplog)
    assert reason == "1 new rows have the item_id of an earlier row"
    assert counts[:3] == expected[:3]
    assert "all 66 items were read again, 1 files are new; 1 interactions of 1 new files were added" in counts.remark
    assert tables(grown) == tables(whole)
    assert set(log_before) < set(grown.context.warehouse.files(INTERACTIONS))
    grown.add("c.parquet", items_of([71, None]))
    assert "1 items of 1 new files were added" in ingest(grown, caplog)[0].remark


@pytest.mark.slow
def test_where_more_happened_than_that_files_came_all_files_are_read_and_the_log_says_why(tmp_path, spark, caplog):
    made = project(tmp_path, spark)
    ingest(made, caplog)
    reasons = []

    made.add("known.parquet", items_of([3, 80]))
    reasons.append(ingest(made, caplog)[1])
    made.add("wide.parquet", items_of([81], price=3))
    reasons.append(ingest(made, caplog)[1])
    made.add("later.parquet", items_of([82]))
    made.context.warehouse.append(ITEMS, made.context.warehouse.read(ITEMS).limit(1))
    reasons.append(ingest(made, caplog)[1])
    made.set("max_unknown_item_share: 0.4\n")
    reasons.append(ingest(made, caplog)[1])

    assert reasons == [
        "1 new rows have the item_id of an earlier row",
        "the new files of items have other columns or types than the earlier ones",
        "items holds other rows than that run wrote",
        "setting max_unknown_item_share changed",
    ]
    assert sorted(row["item_id"] for row in made.rows(ITEMS)) == [*range(64), 80, 81, 82]
