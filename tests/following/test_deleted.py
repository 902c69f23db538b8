"""An item that the catalog says is deleted leaves the tables, the online store and what readers find."""

from __future__ import annotations

import pytest

from qarm_features.feature_store import SemanticIDReader
from qarm_features.feature_store.publishing.release_manifest import require_manifest
from qarm_features.feature_store.publishing.releases import verify_release
from qarm_features.storage.tables import DELETED_ITEMS, ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.telemetry.stage_log import BATCHES, runs_backwards
from tests.following.followed import JOBS, SETTINGS, items_of, run_jobs
from tests.toy_catalog import open_project

COLUMNS = "vector, deleted: is_gone, duplicates: latest, latest_by: changed, "


@pytest.fixture
def catalog(followed):
    """A published project whose catalog has the columns ``is_gone`` and ``changed``."""
    items_of(range(64), is_gone=False, changed=0).to_parquet(
        followed.folder / "catalog" / "items" / "first.parquet", index=False
    )
    (followed.folder / "qarm.yaml").write_text(SETTINGS.replace("vector, ", COLUMNS))
    followed.context = open_project(followed.folder, followed.spark)
    return followed


def item_ids(project, table) -> set[int]:
    return {row["item_id"] for row in project.rows(table)}


def test_a_deleted_item_leaves_and_may_come_back(catalog):
    settings, before = catalog.context.settings, catalog.ids()
    reader = SemanticIDReader(catalog.folder / "feature_repo", cache_items=100)
    assert reader.item_codes([3, 5]).found.all()
    catalog.add("day1.parquet", items_of([3, 64, 99], is_gone=[True, False, True], changed=1))

    counts = catalog.follow()

    (batch,) = runs_backwards(settings, log=BATCHES)
    assert counts.rows_in - counts.rows_out == counts.rows_rejected == 3
    assert batch.rejected_by_reason == {"item is deleted": 3}  # both rows of item 3, and that of 99
    assert "1 new items, 0 changed, 1 semantic IDs assigned, 0 reassigned, 1 deleted, 1 items written" in batch.remark
    after = catalog.ids()
    assert {item: codes for item, codes in before.items() if item != 3} == {i: c for i, c in after.items() if i != 64}
    assert catalog.served([3, 5, 64, 99])[1] == [False, True, True, False]
    reader._releases._store.refresh_registry()
    assert reader.item_codes([3, 5]).found.tolist() == [False, True]
    for table in (ITEMS, ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS):
        assert item_ids(catalog, table) == {*range(65)} - {3}
    assert item_ids(catalog, DELETED_ITEMS) == {3, 99}
    assert require_manifest(settings, 0).release.rows == 64
    assert verify_release(catalog.spark, settings, 0).views == require_manifest(settings, 0).views

    catalog.add("day2.parquet", items_of([3], is_gone=False, changed=2))
    catalog.follow()

    assert {item: codes[:2] for item, codes in catalog.ids().items() if item != 64} == {
        i: c[:2] for i, c in before.items()
    }
    assert catalog.served([3])[0] == [list(before[3][:2])]
    assert item_ids(catalog, DELETED_ITEMS) == {99}


@pytest.mark.slow
def test_a_run_deletes_what_a_follower_would(catalog):
    run_jobs(catalog.context)
    before = catalog.ids()
    catalog.add("day1.parquet", items_of([3, 64, 99], is_gone=[True, False, True], changed=1))

    jobs = [name for name in JOBS if name != "build_user_behavior"]  # qarm run skips it, because no click came
    remarks = run_jobs(catalog.context, jobs)

    assert "3 items: item is deleted" in remarks[0]  # both rows of item 3, and that of 99
    assert "all 64 items were read again, 1 files are new" in remarks[0]
    assert remarks[1].endswith("1 embeddings of deleted items deleted")
    assert remarks[3].endswith("1 semantic IDs of deleted items deleted")
    assert remarks[4].startswith("1 new items, 1 deleted and 0 new rows of behavior")
    assert {i: c for i, c in catalog.ids().items() if i != 64} == {i: c for i, c in before.items() if i != 3}
    assert catalog.served([3, 5, 64, 99])[1] == [False, True, True, False]
    assert item_ids(catalog, DELETED_ITEMS) == {3, 99}

    catalog.add("day2.parquet", items_of([65], is_gone=False, changed=2))
    added = run_jobs(catalog.context, jobs)

    assert "1 items of 1 new files were added" in added[0]
    assert catalog.served([3, 65])[1] == [False, True]
    settings = catalog.context.settings
    assert verify_release(catalog.spark, settings, 0).views == require_manifest(settings, 0).views
