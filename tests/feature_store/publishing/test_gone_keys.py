"""Users and items that left the tables leave the online store with the next publication, and nobody else does."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from pyspark.sql import functions as F

from qarm_features.feature_store import SemanticIDReader
from qarm_features.feature_store.publishing import gone_rows, verification
from qarm_features.feature_store.publishing.gone_rows import GoneRows
from qarm_features.feature_store.publishing.releases import (
    ReleaseError,
    preview_release,
    publish_release,
    verify_release,
)
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.storage.tables import (
    ITEM_COUNTERS,
    ITEM_SEMANTIC_IDS,
    PUBLISHED_KEYS,
    USER_BEHAVIOR,
    USER_IMPRESSIONS,
)
from qarm_features.storage.warehouse import Warehouse
from tests.feature_store.redis_topologies import one_server_cluster
from tests.feature_store.two_versions import release, write_two_versions


@pytest.fixture(
    params=["redis", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sqlite", "cluster", "postgres"))]
)
def online_store(request, tmp_path):
    """The section ``online_store`` of ``feature_store.yaml``."""
    if request.param == "sqlite":
        yield {"type": "sqlite", "path": "online_store.db"}
    elif request.param == "redis":
        server = request.getfixturevalue("redis_server")
        yield {"type": "redis", "skip_dedup": True, "connection_string": server.connection_string}
    elif request.param == "cluster":
        with one_server_cluster(tmp_path / "cluster") as address:
            cluster = {"redis_type": "redis_cluster", "connection_string": address}
            yield {"type": "redis", "skip_dedup": True, **cluster}
    else:
        server = request.getfixturevalue("postgres_server")
        yield server.online_store(server.new_database())


def behavior(context, *users: int) -> None:
    """Writes a behavior sequence for each of these users, and for nobody else."""
    rows = context.spark.createDataFrame(
        [(user, [1, 3], [10, 20]) for user in users],
        "user_id long, behavior_item_ids array<long>, behavior_timestamps array<long>",
    )
    context.warehouse.overwrite(USER_BEHAVIOR, rows.withColumn("event_timestamp", F.timestamp_seconds(F.lit(21))))


def shown(context, *users: int, items: tuple[int, ...]) -> None:
    """Writes impressions of these users and counters of these items, and of nobody else."""
    warehouse, spark = context.warehouse, context.spark
    rows = spark.createDataFrame([(user,) for user in users], "user_id long").selectExpr(
        "user_id", "array(1L) AS impression_item_ids", "array(1) AS impression_labels", "array(10L) AS impression_timestamps",
        "1L AS user_positive_count", "1L AS user_impression_count", "timestamp_seconds(21) AS event_timestamp",
    )  # fmt: skip
    warehouse.overwrite(USER_IMPRESSIONS, rows)
    rows = spark.createDataFrame([(item,) for item in items], "item_id long").selectExpr(
        "item_id",
        "1L AS item_positive_count",
        "2L AS item_impression_count",
        "timestamp_seconds(21) AS event_timestamp",
    )
    warehouse.overwrite(ITEM_COUNTERS, rows)


def served(context, feature: str, *keys: int) -> list[bool]:
    """Tells of each user or item if stock Feast serves a feature."""
    store = open_feature_store(context.settings.feature_repo_path)
    key = "item_id" if "item" in feature.split(":")[0] else "user_id"
    rows = store.get_online_features([feature], [{key: one} for one in keys]).to_dict()
    return [value is not None for value in rows[feature.split(":")[1]]]


def served_users(context, *users: int) -> list[bool]:
    """Tells of each user if stock Feast serves a behavior sequence."""
    return served(context, "user_behavior:behavior_item_ids", *users)


def test_a_user_who_left_is_deleted_by_the_next_publication_and_served_again_after_a_return(
    spark, tmp_path, online_store
):
    context = write_two_versions(tmp_path / "project", spark, online_store=online_store)
    behavior(context, 7, 8, 9)
    publish_release(spark, context.settings, release(0))
    before = served_users(context, 7, 8, 9)
    behavior(context, 7, 10)

    published = publish_release(spark, context.settings, release(0))

    assert (before, served_users(context, 7, 8, 9, 10)) == ([True] * 3, [True, False, False, True])
    assert published.remark == "2 keys that left were deleted online (user_behavior 2)"
    assert SemanticIDReader(context.settings.feature_repo_path).item_codes([1, 2, 3]).found.all()
    verify_release(spark, context.settings, 0)
    behavior(context, 7, 8)
    assert publish_release(spark, context.settings, release(0)).deleted == {"user_behavior": 1}
    assert served_users(context, 7, 8, 9, 10) == [True, True, False, False]


@pytest.fixture
def project(spark, tmp_path):
    """A project in SQLite whose users 7 and 8 are published, with impressions, and counters of the items 1 and 2."""
    context = write_two_versions(tmp_path, spark)
    behavior(context, 7, 8)
    shown(context, 7, 8, items=(1, 2))
    publish_release(spark, context.settings, release(0))
    return context


@pytest.mark.slow
def test_every_view_of_the_log_loses_who_left(project):
    behavior(project, 7)
    shown(project, 7, items=(1,))

    published = publish_release(project.spark, project.settings, release(0))

    assert published.deleted == {"user_behavior": 1, "user_impressions": 1, "item_counters": 1}
    assert served(project, "user_impressions:user_positive_count", 7, 8) == [True, False]
    assert served(project, "item_counters:item_positive_count", 1, 2) == [True, False]


@pytest.mark.slow
def test_a_publisher_that_was_killed_forgets_nobody(project, monkeypatch):
    behavior(project, 7, 9)
    for module, step in ((GoneRows, "delete"), (verification, "check_served")):
        with monkeypatch.context() as patched:
            patched.setattr(module, step, _die)
            with pytest.raises(KeyboardInterrupt):
                publish_release(project.spark, project.settings, release(0))
        behavior(project, 7)

    publish_release(project.spark, project.settings, release(0))

    assert served_users(project, 7, 8, 9) == [True, False, False]


def _die(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_keys_of_an_older_version_that_recorded_none_are_found_in_the_store(project):
    shutil.rmtree(Warehouse(project.settings.warehouse_path, **project.settings.id_types).path(PUBLISHED_KEYS))
    behavior(project, 7)
    expected = preview_release(project.spark, project.settings, release(0))

    published = publish_release(project.spark, project.settings, release(0))

    assert expected.deleted == published.deleted == {"user_behavior": 1}
    assert served_users(project, 7, 8) == [True, False]


@pytest.mark.slow
def test_a_dry_run_says_what_would_go_and_changes_nothing(project):
    behavior(project, 7, 10, 11)
    repo = project.settings.feature_repo_path

    def state():
        files = [repo / "online_store.db", repo / "registry.db", *project.settings.artifacts_path.rglob("*.json")]
        return [file.read_bytes() for file in files], project.warehouse.version(PUBLISHED_KEYS)

    before = state()
    lines = preview_release(project.spark, project.settings, release(0)).lines()

    assert state() == before
    assert lines == [
        "item_semantic_id__cb0: 3 rows would be written, 0 keys that left would be deleted",
        "user_behavior: 3 rows would be written, 1 keys that left would be deleted",
        "user_impressions: 2 rows would be written, 0 keys that left would be deleted",
        "item_counters: 2 rows would be written, 0 keys that left would be deleted",
    ]


@pytest.mark.slow
def test_verification_finds_a_user_who_should_be_gone(project):
    verify_release(project.spark, project.settings, 0)
    with sqlite3.connect(project.settings.feature_repo_path / "online_store.db") as online:
        online.execute(
            "INSERT INTO qarm_user_behavior SELECT x'0b', feature_name, value, value_text, vector_value, event_ts, "
            "created_ts FROM qarm_user_behavior GROUP BY feature_name"
        )

    with pytest.raises(ReleaseError, match="user_behavior has 3 rows with .* must have 2 as in Delta. Rows of keys"):
        verify_release(project.spark, project.settings, 0)

    publish_release(project.spark, project.settings, release(0))
    verify_release(project.spark, project.settings, 0)


@pytest.mark.slow
def test_a_deleted_user_who_is_still_served_stops_the_publication(project, monkeypatch):
    behavior(project, 7)
    monkeypatch.setattr(gone_rows, "_run", lambda keys, target: 0)

    with pytest.raises(ReleaseError, match="user_behavior still serves user_id = 8, which left and was deleted"):
        publish_release(project.spark, project.settings, release(0))


@pytest.mark.slow
def test_impressions_that_are_no_longer_published_leave(project):
    behaviors = project.settings.behavior.model_copy(update={"impression_length": 0})
    settings = project.settings.model_copy(update={"behavior": behaviors})

    published = publish_release(project.spark, settings, release(0))

    assert published.deleted == {"user_impressions": 2, "item_counters": 2}
    assert served(project, "user_impressions:user_positive_count", 7, 8) == [False, False]


def test_an_item_that_left_the_table_of_semantic_ids_leaves_its_release(project):
    with_item_3 = project.warehouse.read(ITEM_SEMANTIC_IDS)
    project.warehouse.overwrite(ITEM_SEMANTIC_IDS, with_item_3.where("item_id < 3"))

    published = publish_release(project.spark, project.settings, release(0, rows=2, delta_version=1))

    assert published.deleted == {"item_semantic_id__cb0": 1}
    reader = SemanticIDReader(project.settings.feature_repo_path)
    assert reader.item_codes([1, 2, 3]).found.tolist() == [True, True, False]


class NoDeletesSqliteOnlineStore(SqliteOnlineStore):
    """A store of which nobody knows how to delete a row."""


class NoDeletesSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    type: str = f"{__name__}.NoDeletesSqliteOnlineStore"


@pytest.mark.slow
def test_a_store_without_a_way_to_delete_is_named(spark, tmp_path):
    store = {"type": NoDeletesSqliteOnlineStoreConfig().type, "path": "online_store.db"}
    context = write_two_versions(tmp_path, spark, online_store=store)
    behavior(context, 7, 8)
    publish_release(spark, context.settings, release(0))
    behavior(context, 7)

    published = [publish_release(spark, context.settings, release(0)) for _ in range(2)]

    assert [one.remark for one in published] == 2 * [
        "1 key that left are STILL SERVED (user_behavior 1), because rows of a "
        f"{NoDeletesSqliteOnlineStoreConfig().type} store cannot be deleted one by one. Delete them by the store's own means"
    ]
    (line,) = [one for one in preview_release(spark, context.settings, release(0)).lines() if "behavior" in one]
    assert "1 keys that left would stay, because rows of a " in line
