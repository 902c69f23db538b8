"""Files of items that arrive: what is served afterwards, and what later jobs find."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from qarm_features.cli.status import status_lines
from qarm_features.feature_store.publishing.release_manifest import (
    promoted_release,
    record_promotion,
    require_manifest,
    write_manifest,
)
from qarm_features.feature_store.publishing.releases import verify_release
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.following.follower import Follower
from qarm_features.following.item_batches import ItemBatches
from qarm_features.following.source_files import FollowError
from qarm_features.jobs.status import project_status
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEMS, REJECTED_ROWS
from qarm_features.telemetry.stage_log import BATCHES, runs_backwards
from tests.following.followed import clicks_of, items_of, run_jobs, vector
from tests.following.online_content import online_content


def test_new_items_are_served_no_id_moves_and_later_jobs_find_nothing_to_do(followed):
    before = followed.ids()
    followed.add("new.parquet", items_of(range(64, 74)))
    followed.add("bad.parquet", items_of([80, 80, None]))

    counts = followed.follow()

    assert (counts.rows_in, counts.rows_out, counts.rows_rejected) == (13, 11, 2)
    after = followed.ids()
    assert {item: after[item] for item in before} == before
    assert sorted(set(after) - set(before)) == [*range(64, 74), 80]
    codes, found = followed.served([0, 64, 73, 80, 99])
    assert found == [True, True, True, True, False]
    assert codes[:4] == [list(after[item][:2]) for item in (0, 64, 73, 80)]
    assert {row["reason"] for row in followed.rows(REJECTED_ROWS)} == {"item_id is a duplicate", "item_id is null"}

    settings = followed.context.settings
    published, online = require_manifest(settings, 0), online_content(followed.folder)
    assert published.release.rows == 75
    assert verify_release(followed.spark, settings, 0).views == published.views
    remarks = run_jobs(followed.context)
    assert remarks[1].startswith("0 items embedded")
    assert remarks[3].startswith("0 semantic IDs assigned")
    assert online_content(followed.folder) == online
    assert require_manifest(settings, 0).release == published.release


@pytest.mark.slow
def test_files_that_were_ingested_or_taken_up_before_are_left_alone(followed):
    followed.add("new.parquet", items_of([64]))
    first = followed.follow()
    online, ids = online_content(followed.folder), followed.ids()

    second = followed.follow()

    assert (first.rows_in, second.rows_in) == (1, 0)
    assert second.remark == "no files arrived"
    assert (online_content(followed.folder), followed.ids()) == (online, ids)


@pytest.mark.parametrize(("on_changed", "theme"), [("keep", 0), pytest.param("reassign", 3, marks=pytest.mark.slow)])
def test_an_item_of_changed_content_keeps_its_id_unless_it_is_to_be_reassigned(followed, on_changed, theme):
    followed.set(f"follow: {{on_changed: {on_changed}}}\n")
    before = followed.ids()
    changed = items_of([5, 64]).assign(vector=[vector(5, theme=3), vector(64)])
    followed.add("changed.parquet", changed)

    followed.follow()

    after, of_theme = followed.ids(), {item: codes[0] for item, codes in before.items()}
    assert {i: codes for i, codes in after.items() if i not in (5, 64)} == {i: c for i, c in before.items() if i != 5}
    assert after[5][0] == of_theme[16 * theme + 1]
    assert followed.served([5])[0] == [list(after[5][:2])]
    assert len(set(after.values())) == 65
    (embedding,) = [row for row in followed.rows(ITEM_EMBEDDINGS) if row["item_id"] == 5]
    assert embedding["embedding"][3] > 0.5
    settings = followed.context.settings
    assert verify_release(followed.spark, settings, 0).views == require_manifest(settings, 0).views


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_rejected_and_holds_up_no_other(followed):
    followed.add("good.parquet", items_of([64]))
    (followed.folder / "catalog" / "items" / "broken.parquet").write_bytes(b"PAR1 and no more")

    counts = followed.follow()

    assert (counts.rows_in, counts.rows_rejected) == (2, 1)
    assert followed.served([64])[1] == [True]
    (row,) = [row for row in followed.rows(REJECTED_ROWS) if row["table"] == "items"]
    assert row["row"].endswith("catalog/items/broken.parquet")
    assert "cannot be read as Parquet" in row["reason"]


@pytest.mark.slow
def test_items_that_a_job_wrote_by_hand_are_served_at_the_start(followed):
    followed.add("new.parquet", items_of([64, 65]))
    run_jobs(followed.context, ["ingest_catalog"])

    counts = followed.follow()

    assert counts.remark == "no files arrived"
    assert followed.served([64, 65])[1] == [True, True]
    assert promoted_release(followed.context.settings).rows == 66


def test_each_batch_is_recorded_with_its_rows_and_its_lag_and_the_status_shows_the_last_one(followed):
    followed.add("new.parquet", items_of([64, None]))

    followed.follow()

    settings = followed.context.settings
    (run,) = runs_backwards(settings, log=BATCHES)
    assert (run.stage, run.rows_in, run.rows_out, run.rows_rejected) == ("follow", 2, 1, 1)
    assert run.rejected_by_reason == {"item_id is null": 1}
    assert run.lag_seconds > 0
    assert run.written == {"item_semantic_ids": promoted_release(settings).delta_version}
    status = project_status(settings, [])
    assert status.to_json()["followed"]["lag_seconds"] == run.lag_seconds
    line = next(str(line) for line in status_lines(status) if "qarm follow" in str(line))
    assert line.endswith(f"2 rows in, 1 out, 1 rejected, {run.seconds:.1f} s, lag {run.lag_seconds:.1f} s.")


@pytest.mark.slow
def test_rows_of_both_sources_that_are_rejected_for_one_reason_are_all_counted(followed):
    followed.add("new.parquet", items_of([64, None]))
    followed.add("clicks.parquet", clicks_of((3, None, 1, 5)), to="log")

    counts = followed.follow()

    (run,) = runs_backwards(followed.context.settings, log=BATCHES)
    assert (run.rows_in, run.rows_out, run.rows_rejected) == (3, 1, 2) == counts[:3]
    assert run.rejected_by_reason == {"item_id is null": 2}
    assert len(followed.rows(REJECTED_ROWS)) == 2


@pytest.mark.slow
def test_the_title_of_an_item_follows_its_latest_file(followed):
    followed.add("titles.parquet", items_of([3], title="another title"))
    before = followed.ids()

    followed.follow()

    assert [row["title"] for row in followed.rows(ITEMS) if row["item_id"] == 3] == ["another title"]
    assert followed.ids() == before


@pytest.mark.slow
def test_a_release_that_was_promoted_in_between_ends_the_follower(followed, tmp_path):
    context = followed.context
    settings, artifacts = context.settings, [context.artifacts(kind).get(0) for kind in ("encoders", "codebooks")]
    served = require_manifest(settings, 0)
    later = dataclasses.replace(served.release, codebook_version=7)
    write_manifest(settings, dataclasses.replace(served, release=later))
    record_promotion(settings, 7, "promote")
    items, store = ItemBatches(settings, context.warehouse, *artifacts), open_feature_store(settings.feature_repo_path)
    follower = Follower(followed.spark, settings, store, items, tmp_path, set(), threading.Event(), print)
    arrived = followed.spark.createDataFrame(
        [("items", "file:/a.parquet", 1)], "section string, path string, modified long"
    )

    with pytest.raises(FollowError, match="codebook version 7 now, and 0 when qarm follow started.* Run: qarm follow"):
        follower.take_up(arrived, 0)
