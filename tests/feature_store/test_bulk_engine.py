"""``feast materialize`` by the bulk engine writes the same rows as Feast's own Spark engine, byte for byte."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from feast import Entity, Field, PushSource, StreamFeatureView, ValueType
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp
from pyspark.sql import functions as F

from tests.feature_store.online_repos import (
    BULK,
    ITEM,
    NOON,
    START,
    STOCK,
    load,
    open_store,
    parquet_view,
    read,
    redis_hashes,
    sqlite_rows,
)
from tests.feature_store.redis_topologies import one_server_cluster, sentinel

EVERY_TYPE = {
    "int32": ("int", Int32),
    "int64": ("bigint", Int64),
    "float32": ("float", Float32),
    "float64": ("double", Float64),
    "bool": ("boolean", Bool),
    "string": ("string", String),
    "bytes": ("binary", Bytes),
    "at": ("timestamp", UnixTimestamp),
    "int32s": ("array<int>", Array(Int32)),
    "int64s": ("array<bigint>", Array(Int64)),
    "floats": ("array<float>", Array(Float32)),
    "doubles": ("array<double>", Array(Float64)),
    "bools": ("array<boolean>", Array(Bool)),
    "strings": ("array<string>", Array(String)),
    "blobs": ("array<binary>", Array(Bytes)),
    "times": ("array<timestamp>", Array(UnixTimestamp)),
}
OLD = datetime(1969, 12, 31, 23, 59, 59, 500000)
EVERY_ROW = [
    (0, NOON, -1, -(2**40), 0.1, 0.1, True, "日本", b"\x00\xff", NOON,
     [1, -1], [2**62], [0.5], [0.1], [True], ["", "é"], [b""], [OLD]),
    (-1, NOON, 0, 0, 0.0, 0.0, False, "", b"x", OLD, [], [], [], [], [], [], [], []),
    (2**62, NOON, *[None] * 16),
    (7, NOON, 300, 300, -2.5, float("nan"), True, "a" * 300, b"b" * 300, NOON,
     list(range(300)), [0], [1.0], [2.0], [False], ["z"], [b"z"], [NOON]),
]  # fmt: skip


@pytest.fixture(scope="module")
def every_type(spark, tmp_path_factory):
    """A view of every type, with nulls, empty lists, negative numbers, unicode and times before 1970."""
    schema = "item_id bigint, event_timestamp timestamp, " + ", ".join(f"`{n}` {t}" for n, (t, _) in EVERY_TYPE.items())
    rows = spark.createDataFrame(EVERY_ROW, schema)
    path = tmp_path_factory.mktemp("rows") / "every_type"
    return lambda: parquet_view(rows, path, {name: dtype for name, (_, dtype) in EVERY_TYPE.items()})


@pytest.mark.parametrize("skip_dedup", [True, False])
def test_every_type_lies_in_redis_byte_for_byte_as_feasts_own_engine_writes_it(
    every_type, tmp_path, redis_server, skip_dedup
):
    online = {"type": "redis", "connection_string": redis_server.connection_string, "skip_dedup": skip_dedup}
    found = {}
    for engine in (BULK, STOCK):
        load(open_store(tmp_path / engine, online, engine=engine), every_type())
        found[engine] = redis_hashes(redis_server.client())
        redis_server.client().flushall()

    assert len(found[BULK]) == 4
    assert found[BULK] == found[STOCK]


def test_every_type_lies_in_sqlite_row_for_row_as_feasts_own_engine_writes_it(every_type, tmp_path):
    found = {}
    for engine in (BULK, STOCK):
        file = tmp_path / engine / "online.db"
        load(open_store(file.parent, {"type": "sqlite", "path": str(file)}, engine=engine), every_type())
        found[engine] = sqlite_rows(file, "shop_item_view")

    assert len(found[BULK]) == 4 * len(EVERY_TYPE)
    assert found[BULK] == found[STOCK]


def test_a_store_without_a_writer_of_ours_is_written_by_its_own_code(every_type, tmp_path):
    online = {"type": "sqlite", "enable_openai_compatible_store": True}
    found = {}
    for engine in (BULK, STOCK):
        file = tmp_path / engine / "online.db"
        load(open_store(file.parent, {**online, "path": str(file)}, engine=engine), every_type())
        found[engine] = sqlite_rows(file, "shop_item_view")

    assert len(found[BULK]) == 4 * len(EVERY_TYPE)
    assert found[BULK] == found[STOCK]


def test_the_latest_row_of_the_window_wins_then_the_latest_created(ratings, tmp_path):
    store = open_store(tmp_path / "repo", {"type": "sqlite", "path": str(tmp_path / "online.db")})
    view = ratings(
        (1, 10, 2, 0), (1, 11, 4, 0), (1, 12, 3, 0),  # the latest event
        (2, 20, 2, 5), (2, 21, 2, 6),  # the latest created
        (3, 30, 1, 0), (3, 31, 30, 0),  # the ends of the window belong to it
        (4, 40, 31, 0),  # after the window
        created_timestamp_column="created",
    )  # fmt: skip

    load(store, view, end=START + timedelta(days=29))

    assert read(store, 1, 2, 3, 4) == [11, 21, 31, None]


def test_an_incremental_load_starts_at_the_watermark(ratings, tmp_path):
    store = open_store(tmp_path / "repo", {"type": "sqlite", "path": str(tmp_path / "online.db")})
    load(store, ratings((1, 10, 2, 0)), end=START + timedelta(days=9))
    ratings((1, 99, 3, 0), (2, 20, 20, 0))

    store.materialize_incremental(START + timedelta(days=29), ["item_view"])

    assert read(store, 1, 2) == [10, 20]
    last = store.get_feature_view("item_view").materialization_intervals[-1]
    assert last == (START + timedelta(days=9), START + timedelta(days=29))


def test_redis_keeps_newer_rows_unless_dedup_is_skipped_and_expires_keys(ratings, tmp_path, redis_server):
    online = {"type": "redis", "connection_string": redis_server.connection_string, "key_ttl_seconds": 1000}
    load(open_store(tmp_path / "first", online), ratings((1, 10, 5, 0), (2, 20, 5, 0), (3, 30, 5, 0)))
    rows = [(1, 11, 4, 0), (2, 21, 5, 0), (3, 31, 6, 0)]  # older, equal, newer

    store = open_store(tmp_path / "second", online)
    load(store, ratings(*rows))
    assert read(store, 1, 2, 3) == [10, 20, 31]
    assert all(990 < redis_server.client().ttl(key) <= 1000 for key in redis_server.client().scan_iter())

    store = open_store(tmp_path / "third", online | {"skip_dedup": True})
    load(store, ratings(*rows))
    assert read(store, 1, 2, 3) == [11, 21, 31]


def test_two_keys_and_renamed_columns_are_found_under_their_new_names(spark, tmp_path, redis_server):
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    rows = spark.createDataFrame([("ü", 3, 4), ("v", 5, 6)], "uid string, item_id bigint, stars int").withColumn(
        "seen_at", F.lit(NOON)
    )
    names = {"uid": "user_id", "stars": "rating", "seen_at": "event_timestamp"}
    view = parquet_view(rows, tmp_path / "rows", {"rating": Int32}, entities=(user, ITEM), field_mapping=names)
    store = open_store(tmp_path, {"type": "redis", "connection_string": redis_server.connection_string}, partitions=3)

    load(store, view, entities=(user, ITEM))

    assert len(redis_hashes(redis_server.client())) == 2
    keys = [{"user_id": "ü", "item_id": 3}, {"user_id": "v", "item_id": 5}, {"user_id": "ü", "item_id": 5}]
    assert store.get_online_features(["item_view:rating"], keys).to_dict()["rating"] == [4, 6, None]


def test_a_view_without_entities_serves_its_latest_row(ratings, tmp_path):
    store = open_store(tmp_path / "repo", {"type": "sqlite", "path": str(tmp_path / "online.db")})

    load(store, ratings((1, 10, 5, 0), (2, 20, 7, 0), (3, 30, 6, 0), entities=()), entities=())

    assert read(store, 1) == [20]


@pytest.mark.filterwarnings("ignore:Stream feature views are experimental:RuntimeWarning")
@pytest.mark.parametrize("kind", ["sqlite", "feast.infra.online_stores.sqlite.SqliteOnlineStore"])
def test_a_stream_view_is_loaded_from_its_batch_source(ratings, tmp_path, kind):
    batch = ratings((1, 10, 5, 0), (1, 11, 6, 0), (2, 20, 7, 0)).batch_source
    fields = [Field(name="item_id", dtype=Int64), Field(name="rating", dtype=Int32)]
    pushed = PushSource(name="pushed", batch_source=batch)
    view = StreamFeatureView(name="item_view", entities=[ITEM], ttl=timedelta(0), schema=fields, source=pushed)
    store = open_store(tmp_path / "repo", {"type": kind, "path": str(tmp_path / "online.db")})

    load(store, view)

    assert read(store, 1, 2, 3) == [11, 20, None]


@pytest.mark.slow
def test_a_cluster_and_the_master_of_a_sentinel_hold_what_a_single_server_holds(ratings, tmp_path, redis_server):
    rows = [(item_id, 10 * item_id, 5, 0) for item_id in range(1, 50)]
    for dedup in (True, False):
        for ttl in (None, 1000):
            options = {"type": "redis", "skip_dedup": not dedup, "key_ttl_seconds": ttl}
            with one_server_cluster(tmp_path / f"cluster{dedup}{ttl}") as address:
                cluster = options | {"connection_string": address, "redis_type": "redis_cluster"}
                store = open_store(tmp_path / f"a{dedup}{ttl}", cluster)
                load(store, ratings(*rows))
                assert read(store, *range(1, 51)) == [*range(10, 500, 10), None]
            with sentinel(tmp_path / f"sentinel{dedup}{ttl}", redis_server.port) as address:
                watched = options | {"connection_string": address, "redis_type": "redis_sentinel"}
                load(open_store(tmp_path / f"b{dedup}{ttl}", watched), ratings(*rows))
                single = options | {"connection_string": redis_server.connection_string}
                assert read(open_store(tmp_path / f"b{dedup}{ttl}", single), 1, 49, 50) == [10, 490, None]
                assert {redis_server.client().ttl(key) > 0 for key in redis_server.client().scan_iter()} == {bool(ttl)}
            redis_server.client().flushall()
