"""The bulk engine survives a server that is lost for a while, and refuses rows that cannot be served."""

from __future__ import annotations

import threading
import time

import pytest
from feast import BatchFeatureView, Field
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import Int32
from pyspark.sql import functions as F

from tests.feature_store.online_repos import ITEM, NOON, load, open_store, parquet_view, read

pytestmark = pytest.mark.filterwarnings("ignore:Batch feature views are experimental features:RuntimeWarning")


def test_a_lost_redis_is_waited_for_and_the_load_is_complete(spark, tmp_path, redis_server):
    rows = spark.range(20_000).selectExpr("id AS item_id", "CAST(id % 100 AS int) AS rating")
    view = parquet_view(rows.withColumn("event_timestamp", F.lit(NOON)), tmp_path / "rows", {"rating": Int32})
    online = {"type": "redis", "connection_string": redis_server.connection_string, "key_ttl_seconds": 1000}
    store = open_store(tmp_path, online, rows_per_write=20)
    before = []

    def restart():
        with redis_server.client() as client:
            while client.dbsize() < 1000:
                time.sleep(0.001)
        redis_server.stop()
        redis_server.start()
        before.append(redis_server.client().dbsize())

    restarting = threading.Thread(target=restart)
    restarting.start()
    load(store, view)
    restarting.join()

    assert 1000 <= before[0] < 20_000
    assert redis_server.client().dbsize() == 20_000
    assert read(store, *range(0, 20_000, 199)) == [i % 100 for i in range(0, 20_000, 199)]


@pytest.mark.slow
def test_a_redis_that_stays_away_ends_the_load_and_leaves_the_watermark(ratings, tmp_path, redis_server):
    online = {"type": "redis", "connection_string": redis_server.connection_string}
    store, view = open_store(tmp_path / "repo", online, retry_seconds=0.3), ratings((1, 10, 5, 0))
    redis_server.stop()

    with pytest.raises(Exception, match="Connection refused"):
        load(store, view)

    assert store.get_feature_view("item_view").materialization_intervals == []


def test_a_wrong_password_is_not_tried_again(ratings, tmp_path, redis_server):
    redis_server.client().config_set("requirepass", "right")
    online = {"type": "redis", "connection_string": f"{redis_server.connection_string},password=wr0ng"}
    started = time.monotonic()

    with pytest.raises(Exception, match="invalid username-password pair") as raised:
        load(open_store(tmp_path / "repo", online, retry_seconds=600), ratings((1, 10, 5, 0)))

    assert time.monotonic() - started < 300
    assert "wr0ng" not in str(raised.value)


def test_a_key_that_holds_something_else_is_told(ratings, tmp_path, redis_server):
    online = {"type": "redis", "connection_string": redis_server.connection_string, "skip_dedup": True}
    store, view = open_store(tmp_path / "repo", online), ratings((1, 10, 5, 0))
    load(store, view)
    (key,) = redis_server.client().scan_iter()
    redis_server.client().set(key, "text")

    for dedup, command in ((True, "HSET"), (False, "HGET")):
        again = open_store(tmp_path / command, online | {"skip_dedup": dedup})
        with pytest.raises(Exception, match="WRONGTYPE Operation against a key holding the wrong kind of value"):
            load(again, view)


def transformed(name: str, path, code: str) -> BatchFeatureView:
    """Returns a view with a transformation, which is a function of a Spark DataFrame given as text."""
    source = SparkSource(name=name, path=str(path), file_format="parquet", timestamp_field="event_timestamp")
    schema = [Field(name="rating", dtype=Int32)]
    return BatchFeatureView(
        name=name,
        entities=[ITEM],
        mode="python",
        source=source,
        udf=eval(code),
        udf_string=code,
        schema=schema,
        online=True,
    )


def test_a_null_key_and_a_lost_column_are_told(ratings, tmp_path):
    store = open_store(tmp_path / "repo", {"type": "sqlite", "path": str(tmp_path / "online.db")})

    with pytest.raises(Exception, match="item_id is null in 1 rows, must be set"):
        load(store, ratings((None, 10, 5, 0), (2, 20, 5, 0)))

    view = transformed("lost", tmp_path / "ratings", "lambda rows: rows.drop('rating')")
    with pytest.raises(
        ValueError, match="The source of lost lacks the columns rating. Present: item_id, event_timestamp"
    ):
        load(store, view)


def test_a_null_event_time_of_a_transformation_is_told(ratings, tmp_path):
    store = open_store(tmp_path / "repo", {"type": "sqlite", "path": str(tmp_path / "online.db")})
    ratings((1, 10, 5, 0))
    no_time = "lambda rows: rows.withColumn('event_timestamp', rows.event_timestamp.substr(0, 0).try_cast('timestamp'))"
    view = transformed("timeless", tmp_path / "ratings", no_time)

    with pytest.raises(Exception, match="event_timestamp of timeless is null in 1 rows, must be set"):
        load(store, view)
