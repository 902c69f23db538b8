"""Files of clicks that arrive: sequences and counters are those that the jobs would build from all files."""

from __future__ import annotations

import pytest

from qarm_features.feature_store.publishing.releases import verify_release
from qarm_features.storage.tables import INTERACTIONS, ITEM_COUNTERS, REJECTED_ROWS, USER_BEHAVIOR, USER_IMPRESSIONS
from tests.following.followed import clicks_of, items_of, run_jobs
from tests.following.online_content import online_content

DERIVED = (INTERACTIONS, USER_BEHAVIOR, USER_IMPRESSIONS, ITEM_COUNTERS)


@pytest.mark.slow
def test_clicks_on_new_and_old_items_reach_sequences_and_counters_as_a_run_over_everything_would_build_them(followed):
    followed.add("new.parquet", items_of([64]))
    log = clicks_of((3, 64, 1, 5), (3, 7, 2, 2), (99, 64, 3, 5), (4, 1, 4, 1), (None, 1, 5, 5))
    followed.add("clicks.parquet", log, to="log")

    counts = followed.follow()

    assert (counts.rows_in, counts.rows_rejected) == (6, 1)
    assert "user_id is null" in {row["reason"] for row in followed.rows(REJECTED_ROWS)}
    latest = max(
        (row for row in followed.rows(USER_BEHAVIOR) if row["user_id"] == 3), key=lambda r: r["event_timestamp"]
    )
    assert latest["behavior_item_ids"][-1] == 64
    assert [row["behavior_item_ids"] for row in followed.rows(USER_BEHAVIOR) if row["user_id"] == 99] == [[64]]
    verify_release(followed.spark, followed.context.settings, 0)
    online, tables = online_content(followed.folder), {table.name: followed.rows(table) for table in DERIVED}

    run_jobs(followed.context)

    assert {table.name: followed.rows(table) for table in DERIVED} == tables
    assert online_content(followed.folder) == online


@pytest.mark.slow
def test_a_click_that_comes_twice_or_late_changes_what_it_must_and_nothing_else(followed):
    first = clicks_of((3, 7, 1, 2), (3, 8, 5, 5))
    followed.add("first.2.parquet", first, to="log")
    followed.follow()
    before = {table.name: followed.rows(table) for table in DERIVED}
    followed.add("again.parquet", first, to="log")
    followed.follow()
    assert {table.name: followed.rows(table) for table in DERIVED} == before
    followed.add("late.parquet", clicks_of((3, 7, 1, 5), (3, 9, 3, 5)), to="log")

    followed.follow()

    rows = [row for row in followed.rows(USER_BEHAVIOR) if row["user_id"] == 3]
    latest = max(rows, key=lambda row: row["event_timestamp"])
    assert latest["behavior_item_ids"][-3:] == [7, 9, 8]
    tables, online = {table.name: followed.rows(table) for table in DERIVED}, online_content(followed.folder)
    run_jobs(followed.context)
    assert {table.name: followed.rows(table) for table in DERIVED} == tables
    assert online_content(followed.folder) == online
