"""The small publication: what it writes and deletes online, and that the record of the release is that of a full one."""

from __future__ import annotations

import dataclasses

import pytest

from qarm_features.feature_store import SemanticIDReader
from qarm_features.feature_store.publishing.increment import publish_increment
from qarm_features.feature_store.publishing.release_manifest import require_manifest, write_manifest
from qarm_features.feature_store.publishing.releases import publish_release, verify_release
from qarm_features.feature_store.views.feature_views import Release, open_feature_store
from qarm_features.storage.change_feed import keep_change_feed
from qarm_features.storage.sql_names import files_at
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS


def ids(spark, *rows):
    """Returns semantic IDs of codebook version 0, each (item, codes)."""
    frame = spark.createDataFrame(rows, "item_id long, rq_codes array<int>")
    columns = ("0 AS codebook_version", "0 AS encoder_version", "timestamp_seconds(0) AS event_timestamp")
    return frame.selectExpr("*", *columns)


@pytest.fixture
def served(fresh_project):
    """A project that serves items 1 to 3, whose table keeps a change feed since."""
    context = fresh_project
    context.warehouse.append(ITEM_SEMANTIC_IDS, ids(context.spark, (1, [0, 1]), (2, [1, 1]), (3, [3, 0])))
    publish_release(context.spark, context.settings, Release(0, 0, 2, 4, delta_version=0, rows=3, moved_at=0))
    keep_change_feed(context.spark, context.warehouse.path(ITEM_SEMANTIC_IDS))
    return context


def start_at(served, version: int) -> None:
    """Lets the record name another version of the same rows, from which the changes are read."""
    manifest = require_manifest(served.settings, 0)
    release = dataclasses.replace(manifest.release, delta_version=version)
    write_manifest(served.settings, dataclasses.replace(manifest, release=release))


@pytest.mark.parametrize("compare", [pytest.param(False, marks=pytest.mark.slow), True])
def test_rows_that_came_changed_and_left_are_served_and_the_record_is_that_of_a_full_publication(served, compare):
    spark, settings, warehouse = served.spark, served.settings, served.warehouse
    since = warehouse.version(ITEM_SEMANTIC_IDS)
    warehouse.append(ITEM_SEMANTIC_IDS, ids(spark, (4, [2, 2])))
    warehouse.upsert(ITEM_SEMANTIC_IDS, ids(spark, (1, [3, 3]), (4, [2, 3])), part={"codebook_version": 0})
    spark.sql(f"DELETE FROM {files_at(warehouse.path(ITEM_SEMANTIC_IDS))} WHERE item_id = 2")
    store = open_feature_store(settings.feature_repo_path)

    start_at(served, 0 if compare else since)

    found = publish_increment(spark, settings, store, compare=compare)

    assert (found.release.rows, found.release.delta_version) == (3, since + 3)
    assert (found.written, found.deleted) == (2, 1)
    batch = SemanticIDReader(settings.feature_repo_path).item_codes([1, 2, 3, 4])
    assert batch.codes.tolist() == [[3, 3], [-1, -1], [3, 0], [2, 3]]
    assert batch.found.tolist() == [True, False, True, True]
    after = require_manifest(settings, 0)
    assert verify_release(spark, settings, 0).views == after.views
    assert publish_increment(spark, settings, store, compare=False).written == 0


def test_a_cache_of_codes_stays_when_items_come_and_begins_anew_when_one_leaves(served):
    spark, settings, warehouse = served.spark, served.settings, served.warehouse
    store = open_feature_store(settings.feature_repo_path)
    reader = SemanticIDReader(settings.feature_repo_path, cache_items=10)

    def read(items):
        reader._releases._store.refresh_registry()
        held = reader._cache.get(reader._releases.current().identity, [1, 2, 3], num_levels=2)[1]
        return held.tolist(), reader.item_codes(items).found.tolist()

    read([1, 2, 3])
    warehouse.append(ITEM_SEMANTIC_IDS, ids(spark, (4, [2, 2])))
    publish_increment(spark, settings, store, compare=True)
    assert read([2, 4]) == ([True, True, True], [True, True])
    spark.sql(f"DELETE FROM {files_at(warehouse.path(ITEM_SEMANTIC_IDS))} WHERE item_id = 2")
    publish_increment(spark, settings, store, compare=False)
    assert read([1, 2, 4]) == ([False, False, False], [True, False, True])
