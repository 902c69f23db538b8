"""Labeled impressions and counters contain only events strictly before a row, also where times tie."""

from datetime import UTC, datetime

import pytest

from qarm_features.behavior.impression_history import item_counters, user_impressions
from qarm_features.feature_store.views.feature_views import log_views
from qarm_features.jobs.build_user_behavior import build_user_behavior
from qarm_features.jobs.context import JobContext
from qarm_features.settings.load import load_settings
from qarm_features.storage.tables import INTERACTIONS, ITEM_COUNTERS, USER_BEHAVIOR, USER_IMPRESSIONS

LOG = "user_id int, item_id int, event_timestamp timestamp, label int"


def at(hour, microsecond=0):
    return datetime(2024, 1, 1, hour, microsecond=microsecond, tzinfo=UTC)


def in_utc(moment):
    return moment.replace(tzinfo=UTC)


def test_impressions_keep_their_labels_the_latest_last_and_counts_go_on_beyond_the_limit(spark):
    log = [(7, 1, at(10), 1), (7, 2, at(11), 0), (7, 3, at(12), 1), (8, 5, at(9), 0)]

    rows = user_impressions(spark.createDataFrame(log, LOG).repartition(3), max_length=2)

    seconds = {hour: int(at(hour).timestamp()) for hour in (9, 10, 11, 12)}
    found = [(*row[:-1], in_utc(row[-1])) for row in rows.orderBy("user_id", "event_timestamp").collect()]
    assert found == [
        (7, [1], [1], [seconds[10]], 1, 1, at(10, 1)),
        (7, [1, 2], [1, 0], [seconds[10], seconds[11]], 1, 2, at(11, 1)),
        (7, [2, 3], [0, 1], [seconds[11], seconds[12]], 2, 3, at(12, 1)),
        (8, [5], [0], [seconds[9]], 0, 1, at(9, 1)),
    ]


def test_impressions_of_one_moment_appear_together(spark):
    log = [(7, 9, at(10), 1), (7, 3, at(10), 0), (7, 5, at(11), 1)]

    rows = user_impressions(spark.createDataFrame(log, LOG), max_length=5).orderBy("event_timestamp").collect()

    assert [(r["impression_item_ids"], r["impression_labels"]) for r in rows] == [
        ([3, 9], [0, 1]),
        ([3, 9, 5], [0, 1, 1]),
    ]
    assert [(r["user_positive_count"], r["user_impression_count"]) for r in rows] == [(1, 2), (2, 3)]


def test_counters_of_an_item_take_all_users_of_a_moment_at_once(spark):
    log = [(7, 1, at(10), 1), (8, 1, at(10), 0), (9, 1, at(12), 1), (7, 2, at(11), 0)]

    rows = item_counters(spark.createDataFrame(log, LOG)).orderBy("item_id", "event_timestamp").collect()

    assert [(*row[:-1], in_utc(row[-1])) for row in rows] == [
        (1, 1, 2, at(10, 1)),
        (1, 2, 3, at(12, 1)),
        (2, 0, 1, at(11, 1)),
    ]


@pytest.mark.slow
def test_a_length_of_zero_leaves_no_labeled_history_behind(fresh_project, spark):
    qarm_yaml = fresh_project.settings.feature_repo_path.parent / "qarm.yaml"
    off = JobContext(load_settings(qarm_yaml, behavior={"impression_length": 0}))
    off.spark, warehouse = spark, fresh_project.warehouse
    warehouse.overwrite(INTERACTIONS, spark.createDataFrame([(7, 1, at(10), 1), (7, 2, at(11), 0)], LOG))
    build_user_behavior(fresh_project)
    before = {table.name: warehouse.read(table).count() for table in (USER_BEHAVIOR, USER_IMPRESSIONS, ITEM_COUNTERS)}

    build_user_behavior(off)

    after = {
        name: warehouse.read(table).count()
        for name, table in zip(before, (USER_BEHAVIOR, USER_IMPRESSIONS, ITEM_COUNTERS))
    }
    assert before == {"user_behavior": 1, "user_impressions": 2, "item_counters": 2}
    assert after == {"user_behavior": 1, "user_impressions": 0, "item_counters": 0}
    assert [view.name for view in log_views(off.settings)] == ["user_behavior"]
    assert [view.name for view in log_views(fresh_project.settings)] == list(before)
