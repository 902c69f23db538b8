"""The Delta versions that live releases name stay readable, also against a VACUUM, and their end is told before it comes."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qarm_features.feature_store.publishing.named_versions import (
    faults,
    keep_readable,
    named_versions,
    remove_old_files,
)
from qarm_features.feature_store.publishing.releases import ReleaseError, publish_release, verify_release
from qarm_features.storage.retention import (
    FILES,
    LOG,
    hours_to_keep,
    raise_retention,
    retention,
    vacuum,
    version_state,
)
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, ITEMS, USER_BEHAVIOR
from qarm_features.storage.warehouse import Warehouse
from tests.feature_store.two_versions import release, write_two_versions

DAY = timedelta(days=1)


@pytest.fixture
def published(tmp_path, spark):
    """A project whose release 0 names version 0 of a table that was rewritten since, as an earlier version made it."""
    context = write_two_versions(tmp_path, spark)
    table = context.warehouse.path(ITEM_SEMANTIC_IDS)
    unset = f"ALTER TABLE delta.`{table}` UNSET TBLPROPERTIES IF EXISTS ('{LOG}', '{FILES}')"
    if context.warehouse.version(ITEM_SEMANTIC_IDS) == 0 and retention(table, LOG) != 30 * DAY:
        spark.sql(unset)
    return context


def path_of(context) -> str:
    return context.warehouse.path(ITEM_SEMANTIC_IDS)


def rewrite(context, times: int = 1) -> None:
    """Writes the same rows into new files, as a repair of a table does."""
    rows = context.warehouse.read(ITEM_SEMANTIC_IDS).collect()
    for _ in range(times):
        frame = context.spark.createDataFrame(rows, context.warehouse.read(ITEM_SEMANTIC_IDS).schema).coalesce(1)
        context.warehouse.overwrite(ITEM_SEMANTIC_IDS, frame)


def grow_older(spark, path: str, days: int) -> None:
    """Lets everything in a table be some days older, as if it had been written then."""
    files = [file for file in Path(path).rglob("*") if file.is_file()]
    for log in (file for file in files if file.suffix == ".json"):
        moments = r'("(?:timestamp|deletionTimestamp|modificationTime)":)(\d+)'
        earlier = re.sub(moments, lambda found: f"{found[1]}{int(found[2]) - days * 86_400_000}", log.read_text())
        written = log.stat().st_mtime
        log.write_text(earlier)
        os.utime(log, (written, written))
    for file in files:
        if file.suffix == ".crc":  # the checksum of another text
            file.unlink()
        else:
            then = file.stat().st_mtime - days * 86_400
            os.utime(file, (then, then))
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


def test_tables_that_releases_name_keep_their_versions_for_years_and_others_as_delta_does(tmp_path, spark):
    context = write_two_versions(tmp_path, spark)

    kept = {name: retention(path_of(context), name) for name in (LOG, FILES)}

    assert kept == {LOG: 3_650 * DAY, FILES: 3_650 * DAY}
    assert retention(context.warehouse.path(USER_BEHAVIOR), LOG) == 30 * DAY


@pytest.mark.slow
def test_a_publication_raises_the_time_of_an_existing_table_once_and_runs_nothing_again(published):
    spark, settings = published.spark, published.settings
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    before = (warehouse.version(ITEM_SEMANTIC_IDS), warehouse.data_version(ITEM_SEMANTIC_IDS))

    publish_release(spark, settings, release(0))
    publish_release(spark, settings, release(0))

    assert retention(path_of(published), LOG) == 3_650 * DAY
    assert warehouse.version(ITEM_SEMANTIC_IDS) == before[0] + 1
    assert warehouse.data_version(ITEM_SEMANTIC_IDS) == before[1]
    assert not raise_retention(spark, path_of(published), 30)  # a longer time stays
    keep_readable(spark, settings)
    assert warehouse.version(ITEM_SEMANTIC_IDS) == before[0] + 1


@pytest.mark.slow
def test_a_vacuum_of_ours_spares_what_a_release_names_and_is_refused_for_what_it_cannot_read(published):
    spark, settings = published.spark, published.settings
    publish_release(spark, settings, release(0))
    rewrite(published, times=2)
    grow_older(spark, path_of(published), days=20)
    (named,) = named_versions(settings)
    assert (named.table, named.version, named.view) == (ITEM_SEMANTIC_IDS, 0, "item_semantic_id__cb0")

    (would, *_), (did, *_) = (list(remove_old_files(spark, settings, dry_run=dry_run)) for dry_run in (True, False))

    assert would[:2] == did[:2] == ("item_semantic_ids", 0)
    assert 20 * 24 < did[2] <= 20 * 24 + 26
    verify_release(spark, settings, 0)
    assert version_state(path_of(published), 0).fault is None

    assert vacuum(spark, path_of(published), 168, dry_run=False) > 0  # by somebody who asks for it
    assert list(faults(settings)) == [
        f"Version 0 of item_semantic_ids, which item_semantic_id__cb0 reads, cannot be read any more: "
        f"{version_state(path_of(published), 0).fault}"
    ]
    with pytest.raises(
        ReleaseError, match="cannot be read any more: files of it were removed, .*. Nothing was removed"
    ):
        list(remove_old_files(spark, settings, dry_run=True))
    publish_release(spark, settings, release(0, delta_version=published.warehouse.version(ITEM_SEMANTIC_IDS)))
    assert list(faults(settings)) == []


@pytest.mark.slow
def test_old_versions_outlive_the_cleaning_of_the_log_and_without_the_property_they_did_not(tmp_path, spark):
    states, ends = {}, {}
    for name in ("kept", "by default"):
        path = str(tmp_path / name)
        properties = {LOG: "interval 3650 days", FILES: "interval 3650 days"} if name == "kept" else {}
        writer = spark.range(1).coalesce(1).write.format("delta").mode("overwrite")
        writer.options(**properties, **{"delta.checkpointInterval": "3"}).save(path)
        for _ in range(3):
            spark.range(1).coalesce(1).write.format("delta").mode("overwrite").save(path)
        grow_older(spark, path, 25)
        ends[name] = version_state(path, 1)
        grow_older(spark, path, 15)
        for _ in range(6):
            spark.range(1).coalesce(1).write.format("delta").mode("overwrite").save(path)
        states[name] = version_state(path, 1).fault

    assert states == {"kept": None, "by default": "its log was cleaned up"}
    left = ends["by default"].until - datetime.now(UTC)
    assert (ends["by default"].cause, round(left / DAY)) == (FILES, -18)
    assert ends["kept"].until - datetime.now(UTC) > 3_600 * DAY


def test_the_end_of_a_version_is_told_before(published):
    spark, settings = published.spark, published.settings
    publish_release(spark, settings, release(0))
    rewrite(published)
    assert list(faults(settings)) == []
    soon = datetime.now(UTC) + 3_640 * DAY

    (fault,) = faults(settings, now=soon)

    assert fault == (
        "Version 0 of item_semantic_ids, which item_semantic_id__cb0 reads, may cease to be readable in 9 days by "
        "delta.logRetentionDuration"
    )
    assert hours_to_keep(path_of(published), 0, now=soon) > 3_640 * 24
    newest = published.warehouse.version(ITEM_SEMANTIC_IDS)
    assert hours_to_keep(path_of(published), newest, now=soon) == 168


def test_a_property_of_a_new_table_stays_when_its_schema_is_replaced(tmp_path, spark):
    context = write_two_versions(tmp_path, spark)
    rewrite(context)

    assert retention(path_of(context), FILES) == 3_650 * DAY
    assert not context.warehouse.exists(ITEMS)
