"""The join in plain Spark gives the rows of Feast's join, with ties, late arrivals, a ttl and missing entities."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.table_format import DeltaFormat
from feast.types import Array, Int64

from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.training.point_in_time import feast_join, spark_join
from tests.toy_catalog import write_toy_project

START = datetime(2024, 1, 1, tzinfo=UTC)
USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
ITEM = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)


def moment(random, steps):
    return START + timedelta(hours=int(random.integers(steps)))


def user_rows(random):
    """Return rows of 15 users on a grid of 40 hours. Some moments occur twice, and the later arrival corrects the earlier."""
    rows = {}
    for value in range(300):
        user, at = int(random.integers(15)), moment(random, 40)
        created = at + timedelta(minutes=int(random.integers(5_000)))
        rows[user, at, created] = (user, [value] * int(random.integers(1, 4)), value, at, created)
    return list(rows.values())


def one_row_a_moment(random, keys, steps):
    rows = {(int(random.integers(keys)), moment(random, steps)): value for value in range(200)}
    return [(key, value, at) for (key, at), value in rows.items()]


def entity_rows(random):
    """Return rows at the times of view rows, one microsecond off, repeated, and with unknown or null entities."""
    rows = []
    for number in range(250):
        beside = timedelta(microseconds=int(random.integers(-1, 2)))
        user = None if number % 50 == 0 else int(random.integers(18))
        rows.append((user, int(random.integers(12)), moment(random, 45) + beside, number))
    return rows + rows[:5]


def view(name, entity, path, fields, *, ttl=timedelta(0), created=None, mapping=None):
    source = SparkSource(
        name=name,
        path=str(path),
        table_format=DeltaFormat(),
        timestamp_field="at",
        created_timestamp_column=created,
        field_mapping=mapping or {},
    )
    key = Field(name=entity.join_key, dtype=Int64)
    return FeatureView(name=name, entities=[entity], ttl=ttl, schema=[key, *fields], source=source)


@pytest.fixture(scope="module")
def store(tmp_path_factory, spark):
    """Return a store with views of users (late arrivals, a ttl), of items over time, and of items at one moment."""
    folder, random = tmp_path_factory.mktemp("views"), np.random.default_rng(0)
    tables = {
        "corrected": ("user_id long, recent array<long>, total long, at timestamp, made timestamp", user_rows(random)),
        "short_lived": ("user_id long, stored long, at timestamp", one_row_a_moment(random, 15, 40)),
        "counted": ("item_id long, count long, at timestamp", one_row_a_moment(random, 10, 40)),
        "constant": ("item_id long, code long, at timestamp", [(i, 100 + i, START) for i in range(8)]),
    }
    for name, (schema, rows) in tables.items():
        spark.createDataFrame(rows, schema).repartition(3).write.format("delta").save(str(folder / name))
    write_toy_project(folder / "project")
    store = open_feature_store(folder / "project" / "feature_repo")
    lists = [Field(name="recent", dtype=Array(Int64)), Field(name="total", dtype=Int64)]
    store.apply([
        USER,
        ITEM,
        view("corrected", USER, folder / "corrected", lists, created="made"),
        view("short_lived", USER, folder / "short_lived", [Field(name="kept", dtype=Int64)],
             ttl=timedelta(hours=3), mapping={"stored": "kept"}),
        view("counted", ITEM, folder / "counted", [Field(name="count", dtype=Int64)]),
        view("constant", ITEM, folder / "constant", [Field(name="code", dtype=Int64)]),
    ])  # fmt: skip
    return store


def entities(spark, random, partitions=4):
    schema = "user_id long, item_id long, event_timestamp timestamp, number int"
    return spark.createDataFrame(entity_rows(random), schema).repartition(partitions)


FEATURES = ["constant:code", "corrected:recent", "corrected:total", "short_lived:kept", "counted:count"]


def sorted_rows(frame):
    columns = ["number", "user_id", "item_id", "event_timestamp", *[f.split(":")[1] for f in FEATURES]]
    return sorted(map(repr, map(tuple, frame.select(columns).collect())))


def test_randomized_rows_are_those_of_feast(store, spark):
    rows = entities(spark, np.random.default_rng(1))

    ours = sorted_rows(spark_join(store, rows, FEATURES))

    assert ours == sorted_rows(feast_join(store, rows, FEATURES))
    assert len(ours) == 255
    assert sum("None, None, None, None, None)" in row for row in ours) > 0


@pytest.mark.slow
def test_partitions_do_not_change_the_result(store, spark):
    one, seven = (entities(spark, np.random.default_rng(2), partitions) for partitions in (1, 7))

    assert sorted_rows(spark_join(store, one, FEATURES)) == sorted_rows(spark_join(store, seven, FEATURES))


def test_a_view_row_of_the_same_moment_is_seen_and_one_of_a_microsecond_later_is_not(store, spark):
    late, early = START + timedelta(microseconds=0), START - timedelta(microseconds=1)
    rows = spark.createDataFrame([(3, late), (3, early), (77, late)], "item_id long, event_timestamp timestamp")

    joined = spark_join(store, rows, ["constant:code"]).collect()

    found = {(r["item_id"], r["event_timestamp"].replace(tzinfo=UTC)): r["code"] for r in joined}
    assert found == {(3, late): 103, (3, early): None, (77, late): None}


def test_rows_without_a_join_key_are_refused(store, spark):
    rows = spark.createDataFrame([(3,)], "item_id long")

    with pytest.raises(ValueError, match="Rows lack event_timestamp, user_id, which the join with constant, corrected"):
        spark_join(store, rows, ["constant:code", "corrected:total"])
