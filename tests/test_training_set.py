"""A row sees only behaviour strictly before its own moment; truth is a join written out in plain Python."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import pytest

from qarm_features.feature_store.feature_views import open_feature_store
from qarm_features.feature_store.releases import promoted_release
from qarm_features.tables import INTERACTIONS, ITEM_SEMANTIC_IDS, TRAINING_ROWS
from qarm_features.training_set import _behavior_codes, training_rows
from spark_jobs.build_training_set import build_training_set


@pytest.fixture(scope="module")
def rows(project):
    return [row.asDict() for row in project.warehouse.read(TRAINING_ROWS).collect()]


def test_every_impression_has_the_behavior_and_the_codes_of_strictly_before(project, rows):
    codes = {r["item_id"]: r["rq_codes"] for r in project.warehouse.read(ITEM_SEMANTIC_IDS).collect()}
    log = sorted(project.warehouse.read(INTERACTIONS).collect(), key=lambda r: (r["event_timestamp"], r["item_id"]))
    of_user = defaultdict(list)
    for event in log:
        of_user[event["user_id"]].append(event)

    for row in rows:
        before = [
            e["item_id"]
            for e in of_user[row["user_id"]]
            if e["event_timestamp"] < row["event_timestamp"] and e["label"] == 1
        ][-8:]
        assert (row["behavior_item_ids"] or []) == before
        assert (row["behavior_codes"] or []) == [code for item in before for code in codes[item]]
        assert row["item_codes"] == codes[row["item_id"]]

    key = ("user_id", "item_id", "event_timestamp", "label")
    assert sorted(tuple(r[k] for k in key) for r in rows) == sorted(tuple(e[k] for k in key) for e in log)


def test_splits_follow_one_another_in_time_and_none_is_empty(rows):
    times = defaultdict(list)
    for row in rows:
        times[row["split"]].append(row["event_timestamp"])

    assert max(times["train"]) < min(times["valid"]) <= max(times["valid"]) < min(times["test"])
    assert {split: len(of_split) for split, of_split in times.items()} == {"train": 640, "valid": 80, "test": 80}


def test_an_item_without_codes_is_minus_1_in_the_behavior_and_null_as_target(project, spark):
    store, release = open_feature_store(project.settings.feature_repo_path), promoted_release(project.settings)
    codes = project.warehouse.read(ITEM_SEMANTIC_IDS).where("item_id = 5").first()["rq_codes"]
    rows = spark.createDataFrame([(7, [10_005, 5]), (8, None)], "user_id long, behavior_item_ids array<long>")
    rows = rows.selectExpr("*", "xxhash64(behavior_item_ids) AS sequence")
    impressions = spark.createDataFrame(
        [(7, item, datetime(2024, 1, 1, hour, tzinfo=UTC), 1) for hour, item in enumerate((5, 10_005, 5))],
        "user_id long, item_id long, event_timestamp timestamp, label int",
    )

    coded = spark.createDataFrame([(5, codes)], "item_id long, rq_codes array<int>")

    (sequence,) = _behavior_codes(rows, coded, release).collect()
    built = training_rows(impressions, store=store, release=release, valid_share=0.3, test_share=0.3)

    assert sequence["behavior_codes"] == [-1, -1, *codes]
    assert [r["item_codes"] for r in built.orderBy("event_timestamp").collect()] == [codes, None, codes]


def test_without_a_promoted_release_it_says_what_to_run(fresh_project):
    with pytest.raises(ValueError, match="No release is promoted, must be one. Run: qarm publish-features"):
        build_training_set(fresh_project)
