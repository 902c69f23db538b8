"""A training row has neither its own label nor labels of its moment, as a loop in plain Python over a log with ties shows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from qarm_features.behavior.impression_history import item_counters, user_impressions
from qarm_features.behavior.user_behavior import user_behavior
from qarm_features.feature_store.views.feature_views import (
    Release,
    entities,
    log_views,
    open_feature_store,
    release_view,
)
from qarm_features.storage.tables import (
    ITEM_COUNTERS,
    ITEM_SEMANTIC_IDS,
    TRAINING_ROWS,
    USER_BEHAVIOR,
    USER_IMPRESSIONS,
)
from qarm_features.training.training_set import training_rows
from tests.toy_catalog import open_project, write_toy_project

START = datetime(2024, 1, 1, tzinfo=UTC)
CUTS = (START + timedelta(hours=8), START + timedelta(hours=10))
RELEASE = Release(codebook_version=0, encoder_version=0, num_levels=2, codebook_size=9, delta_version=0, rows=8)
LENGTH = 4
COLUMNS = [
    "user_id",
    "item_id",
    "event_timestamp",
    "label",
    *["item_codes", "behavior_item_ids", "behavior_timestamps", "behavior_codes"],
    *["impression_item_ids", "impression_labels", "impression_timestamps", "impression_codes"],
    *["user_positive_count", "user_impression_count", "item_positive_count", "item_impression_count"],
    *["split", "codebook_version"],
]


def order_in_moment(item):
    return item * 5 % 9


def tied_log():
    """Return (user, item, hour, label) of 6 users and 9 items, in order. Each user is shown several items in one hour."""
    random = np.random.default_rng(0)
    keys = {tuple(map(int, random.integers((6, 9, 12)))) for _ in range(150)}
    keys = sorted(keys, key=lambda key: (key[2], order_in_moment(key[1])))
    return [(user, item, START + timedelta(hours=hour), int(random.integers(2))) for user, item, hour in keys]


def codes_of(item):
    return [item, 8 - item] if item < 8 else None  # item 8 has none


def expected_row(log, user, item, at, label):
    before = [row for row in log if row[2] < at]
    shown = [row for row in before if row[0] == user]
    liked = [row for row in shown if row[3] == 1][-LENGTH:]
    of_item = [row for row in before if row[1] == item]

    def lists(rows, labels):
        if not rows:
            return [None] * (4 if labels else 3)
        codes = [code for row in rows for code in codes_of(row[1]) or [-1, -1]]
        times = [int(row[2].timestamp()) for row in rows]
        return [[row[1] for row in rows], *([[row[3] for row in rows]] if labels else []), times, codes]

    counts = [sum(row[3] for row in shown), len(shown), sum(row[3] for row in of_item), len(of_item)]
    split = "train" if at < CUTS[0] else "valid" if at < CUTS[1] else "test"
    history = [*lists(liked, labels=False), *lists(shown[-LENGTH:], labels=True)]
    return (user, item, at, label, codes_of(item), *history, *counts, split, 0)


@pytest.fixture(scope="module")
def tied(tmp_path_factory, spark):
    """Return context, store and log of a project with applied views, whose log has many rows of one user in one hour."""
    context = open_project(write_toy_project(tmp_path_factory.mktemp("tied")), spark)
    log = spark.createDataFrame(tied_log(), "user_id long, item_id long, event_timestamp timestamp, label int")
    log = log.withColumn("order_in_moment", order_in_moment(log["item_id"]))
    codes = spark.createDataFrame([(item, codes_of(item)) for item in range(8)], "item_id long, rq_codes array<int>")
    codes = codes.selectExpr(
        "*", "0 AS codebook_version", "0 AS encoder_version", "timestamp_seconds(0) AS event_timestamp"
    )
    context.warehouse.append(ITEM_SEMANTIC_IDS, codes)
    context.warehouse.overwrite(USER_BEHAVIOR, user_behavior(log, max_length=LENGTH))
    context.warehouse.overwrite(USER_IMPRESSIONS, user_impressions(log, max_length=LENGTH))
    context.warehouse.overwrite(ITEM_COUNTERS, item_counters(log))
    store = open_feature_store(context.settings.feature_repo_path)
    settings = context.settings
    store.apply([*entities(settings), release_view(settings, RELEASE), *log_views(settings)])
    return context, store, log.repartition(3)


@pytest.mark.parametrize("point_in_time", ["spark", pytest.param("feast", marks=pytest.mark.slow)])
def test_every_row_has_the_history_and_the_counts_of_strictly_before(tied, point_in_time):
    _, store, log = tied

    rows = training_rows(log, store=store, release=RELEASE, cuts=CUTS, point_in_time=point_in_time)

    found = [(*row[:2], row[2].replace(tzinfo=UTC), *row[3:]) for row in rows.select(COLUMNS).collect()]
    assert sorted(found, key=repr) == sorted((expected_row(tied_log(), *row) for row in tied_log()), key=repr)


@pytest.mark.slow
def test_without_impressions_the_files_lack_their_columns(tied, tmp_path):
    import pyarrow.parquet as pq

    context, store, log = tied
    warehouse = context.warehouse
    both = {
        name: training_rows(log, store=store, release=RELEASE, cuts=CUTS, with_impressions=name)
        for name in (True, False)
    }

    for rows in both.values():
        warehouse.overwrite(TRAINING_ROWS, rows, where="codebook_version = 0", made_from={"release": 7})

    (file, *_) = warehouse.files(TRAINING_ROWS, codebook_version=0, split="train")
    written = set(pq.read_schema(file).names)
    assert "behavior_timestamps" in written
    assert {"impression_item_ids", "impression_labels", "item_positive_count"} & written == set()
    assert warehouse.made_from(TRAINING_ROWS) == [{"release": 7}, {"release": 7}]
