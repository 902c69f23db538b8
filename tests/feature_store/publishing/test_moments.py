"""A publication has one moment: rows up to it are loaded and verified, rows of the future are held back and counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing import loading, planning
from qarm_features.feature_store.publishing.releases import publish_release, verify_release
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.storage.tables import USER_BEHAVIOR
from tests.feature_store.two_versions import release, write_two_versions


def behavior(context, *rows: tuple[int, list[int], datetime]) -> None:
    """Writes (user, items, event time) rows."""
    frame = context.spark.createDataFrame(
        [(user, items, [10] * len(items), time) for user, items, time in rows],
        "user_id long, behavior_item_ids array<long>, behavior_timestamps array<long>, event_timestamp timestamp",
    )
    context.warehouse.overwrite(USER_BEHAVIOR, frame)


def served(context, *users: int) -> list:
    store = open_feature_store(context.settings.feature_repo_path)
    rows = store.get_online_features(["user_behavior:behavior_item_ids"], [{"user_id": user} for user in users])
    return rows.to_dict()["behavior_item_ids"]


@pytest.fixture
def project(spark, tmp_path):
    return write_two_versions(tmp_path, spark)


def test_rows_whose_time_comes_while_they_are_published_do_not_fail_the_publication(project, monkeypatch):
    past, load = datetime(2024, 1, 1, tzinfo=UTC), loading.materialize

    def load_until_the_next_moment_has_come(store, views, moment):
        load(store, views, moment)
        # What a clock that is ahead wrote: later than the load, earlier than its verification.
        behavior(project, (7, [1], past), (7, [1, 2], moment + timedelta(microseconds=1)))

    behavior(project, (7, [1], past), (7, [1, 2], datetime.now(UTC) + timedelta(days=1)))
    monkeypatch.setattr(loading, "materialize", load_until_the_next_moment_has_come)

    publish_release(project.spark, project.settings, release(0))

    assert served(project, 7) == [[1]]


def test_rows_of_the_future_are_held_back_counted_and_named(project):
    past = datetime(2024, 1, 1, tzinfo=UTC)
    ahead, latest = datetime(2099, 5, 4, 3, 2, 1, tzinfo=UTC), datetime(2099, 5, 4, 3, 2, 2, 999_999, tzinfo=UTC)
    behavior(project, (7, [1], past), (7, [1, 2], ahead), (8, [3], latest))

    published = publish_release(project.spark, project.settings, release(0))

    assert served(project, 7, 8) == [[1], None]
    assert published.remark == (
        "2 rows of the future were held back (user_behavior 2), the latest is of 2099-05-04 03:02:02 UTC. Check the "
        "clocks and time zones of the click log"
    )
    assert published.held_back["user_behavior"].latest == latest
    verify_release(project.spark, project.settings, 0)


@pytest.mark.slow
def test_a_row_of_the_very_moment_is_loaded_and_one_microsecond_later_it_is_not(project, monkeypatch):
    moment = datetime(2025, 6, 7, 8, 9, 10, 123_456, tzinfo=UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return moment

    monkeypatch.setattr(planning, "datetime", Clock)
    behavior(project, (7, [1], moment), (8, [2], moment + timedelta(microseconds=1)))

    published = publish_release(project.spark, project.settings, release(0))

    assert published.moment == moment
    assert published.held_back["user_behavior"].rows == 1
    assert served(project, 7, 8) == [[1], None]


@pytest.mark.slow
def test_the_session_s_time_zone_moves_no_moment(project):
    zone = project.spark.conf.get("spark.sql.session.timeZone")
    rows = project.spark.createDataFrame([(7,)], "user_id long")
    rows = rows.withColumn("event_timestamp", F.timestamp_seconds(F.lit(int(datetime.now(UTC).timestamp()) - 60)))
    rows = rows.selectExpr(
        "user_id", "array(1L) AS behavior_item_ids", "array(1L) AS behavior_timestamps", "event_timestamp"
    )
    project.warehouse.overwrite(USER_BEHAVIOR, rows)
    try:
        project.spark.conf.set("spark.sql.session.timeZone", "America/New_York")
        published = publish_release(project.spark, project.settings, release(0))
    finally:
        project.spark.conf.set("spark.sql.session.timeZone", zone)

    assert published.held_back == {}
    assert served(project, 7) == [[1]]
