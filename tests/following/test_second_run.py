"""A second run adds what came since the first, and ends with the tables and the online rows of a run over all rows."""

from __future__ import annotations

import logging
import shutil

import pytest

from qarm_features.feature_store.publishing.releases import verify_release
from qarm_features.storage.tables import USER_BEHAVIOR
from tests.following.followed import FollowedProject, clicks_of, items_of, run_jobs

CLICKS = clicks_of((3, 64, 1, 5), (4, 7, 2, 2), (99, 64, 3, 5), (99, 64, 3, 5))
LATE = clicks_of((3, 7, -30, 5), (3, 8, 1, 2), (4, 8, 1, 5))


@pytest.fixture
def grown(published, tmp_path, spark) -> FollowedProject:
    """A published project to whose sources files were added."""
    made = FollowedProject(shutil.copytree(published, tmp_path / "grown"), spark)
    run_jobs(made.context, ("publish_features",))  # once more, because the folder of the views is another one
    made.add("new.parquet", items_of([64, 65, 65]))
    made.add("clicks.parquet", CLICKS, to="log")
    return made


def run(made: FollowedProject, caplog, *, whole: bool = False) -> list[str]:
    """Runs all jobs up to the publication, and returns what the log says of jobs that did their whole work."""
    caplog.clear()
    made.context.whole = whole
    with caplog.at_level(logging.INFO, "qarm_features.jobs"):
        run_jobs(made.context)
    return [record.getMessage() for record in caplog.records if ", because " in record.getMessage()]


def same_content(made: FollowedProject, other: FollowedProject) -> None:
    found, expected = made.content(), other.content()
    for name in expected:
        assert found[name] == expected[name], name


@pytest.mark.slow
def test_a_second_run_adds_what_came_and_ends_as_a_run_over_all_rows_does(grown, tmp_path, spark, caplog):
    other = FollowedProject(shutil.copytree(grown.folder, tmp_path / "whole"), spark)
    reasons = run(other, caplog, whole=True)

    added = run(grown, caplog)

    assert len(reasons) == 4
    assert added == []
    same_content(grown, other)
    verify_release(spark, grown.context.settings, 0)


@pytest.mark.slow
def test_late_clicks_change_later_rows_and_what_is_served(grown, tmp_path, spark, caplog):
    run(grown, caplog)
    grown.add("late.parquet", LATE, to="log")
    other = FollowedProject(shutil.copytree(grown.folder, tmp_path / "whole"), spark)
    run(other, caplog, whole=True)

    added = run(grown, caplog)

    assert added == []
    same_content(grown, other)


@pytest.mark.slow
def test_rows_that_the_store_lost_are_written_again(grown, spark, caplog):
    import sqlite3

    (file,) = grown.folder.rglob("online_store.db")
    database = sqlite3.connect(file)
    (table,) = database.execute("SELECT name FROM sqlite_master WHERE name LIKE 'qarm_user_behavior'").fetchone()
    database.execute(f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} LIMIT 1)")
    database.commit()
    database.close()

    reasons = run(grown, caplog)

    assert len(reasons) == 1
    assert reasons[0].startswith(
        "publish-features writes all rows, because the new rows alone give an error: user_behavior"
    )
    verify_release(spark, grown.context.settings, 0)


@pytest.mark.slow
def test_a_run_after_changed_rows_does_its_whole_work_and_says_why(grown, spark, caplog):
    run(grown, caplog)
    (grown.folder / "catalog/log/clicks.parquet").unlink()

    reasons = run(grown, caplog)

    assert [reason.partition(", because ")[2] for reason in reasons] == [
        "1 files of interactions left, for example clicks.parquet",
        "items was written anew",
        "interactions was written anew",
        "user_behavior was written anew",
    ]
    assert 99 not in {row["user_id"] for row in grown.rows(USER_BEHAVIOR)}
