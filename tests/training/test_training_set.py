"""A training row has only behavior strictly before its time, as a join in plain Python shows."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import pytest

from qarm_features.feature_store.publishing.releases import promoted_release
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.jobs.build_training_set import build_training_set
from qarm_features.storage.tables import INTERACTIONS, ITEM_SEMANTIC_IDS, TRAINING_ROWS
from qarm_features.training.training_set import _sequence_codes, training_rows


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
    rows = rows.selectExpr("*", "xxhash64(behavior_item_ids) AS _behavior")
    impressions = spark.createDataFrame(
        [(7, item, datetime(2024, 1, 1, hour, tzinfo=UTC), 1) for hour, item in enumerate((5, 10_005, 5))],
        "user_id long, item_id long, event_timestamp timestamp, label int",
    )

    coded = spark.createDataFrame([(5, codes)], "item_id long, rq_codes array<int>")

    (sequence,) = _sequence_codes(rows, coded, name="behavior", num_levels=release.num_levels).collect()
    built = training_rows(
        impressions,
        store=store,
        release=release,
        cuts=(datetime(2024, 1, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 2, tzinfo=UTC)),
    )

    assert sequence["behavior_codes"] == [-1, -1, *codes]
    found = [(r["item_codes"], r["split"]) for r in built.orderBy("event_timestamp").collect()]
    assert found == [(codes, "train"), (None, "valid"), (codes, "test")]


def test_the_commit_says_which_release_and_which_tables_the_rows_were_made_from(project):
    warehouse = project.warehouse

    (made_from,) = warehouse.made_from(TRAINING_ROWS)

    tables = ("interactions", "user_behavior", "user_impressions", "item_counters")
    assert made_from["release"]["delta_version"] == warehouse.version(ITEM_SEMANTIC_IDS)
    assert made_from["release"]["codebook_version"] == 0
    assert made_from["delta_versions"] == dict.fromkeys(tables, 0)


def test_the_latest_impressions_and_counters_are_served_online_by_stock_feast(project):
    store, log = open_feature_store(project.settings.feature_repo_path), project.warehouse.read(INTERACTIONS)
    of_user = log.where("user_id = 7").orderBy("event_timestamp").collect()
    of_item = log.where("item_id = 5").collect()

    user = store.get_online_features(
        ["user_impressions:impression_labels", "user_impressions:user_positive_count"], [{"user_id": 7}]
    ).to_dict()
    item = store.get_online_features(["item_counters:item_impression_count"], [{"item_id": 5}]).to_dict()

    assert user["impression_labels"] == [[row["label"] for row in of_user]]
    assert user["user_positive_count"] == [sum(row["label"] for row in of_user)]
    assert item["item_impression_count"] == [len(of_item)]


def test_without_a_promoted_release_it_says_what_to_run(fresh_project):
    with pytest.raises(ValueError, match="No release is promoted. Run: qarm publish-features"):
        build_training_set(fresh_project)
