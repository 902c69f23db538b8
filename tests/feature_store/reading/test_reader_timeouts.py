"""A reader reports a store that stalls, breaks or refuses. The tests stop and kill real servers."""

from __future__ import annotations

import asyncio
import sqlite3
import time

import pytest

from qarm_features.feature_store.reading.reader import AsyncSemanticIDReader, SemanticIDReader
from qarm_features.feature_store.store_errors import OnlineStoreError
from tests.feature_store.stock_store import stock_store

ITEMS = {item: [0, item] for item in range(8)}
BEHAVIORS = {7: ([1, 2], [10, 20])}


class OnALoop:
    """An asyncio reader with the methods of a blocking one."""

    def __init__(self, *args, **options):
        self._runner = asyncio.Runner()
        self._reader = AsyncSemanticIDReader(*args, **options)

    def item_codes(self, item_ids):
        return self._runner.run(self._reader.item_codes(item_ids))

    def user_and_candidates(self, user_id, item_ids):
        return self._runner.run(self._reader.user_and_candidates(user_id, item_ids))

    def close(self):
        self._runner.run(self._reader.close())
        self._runner.close()


@pytest.fixture(params=[SemanticIDReader, OnALoop], ids=["threads", "asyncio"])
def open_reader(request, tmp_path):
    """Opens readers of ``tmp_path / "feature_repo"``, and closes them."""
    opened = []

    def opens(**options):
        opened.append(request.param(tmp_path / "feature_repo", **options))
        return opened[-1]

    yield opens
    for reader in opened:
        reader.close()


@pytest.fixture
def on_redis(tmp_path, redis_server):
    settings = {"type": "redis", "connection_string": redis_server.connection_string, "skip_dedup": True}
    stock_store(tmp_path, settings, ITEMS, BEHAVIORS)
    return redis_server


def test_a_stalled_redis_raises_in_time_and_no_late_answer_reaches_the_next_call(on_redis, open_reader):
    reader = open_reader(timeout=0.5)
    assert reader.item_codes([1, 2]).codes.tolist() == [[0, 1], [0, 2]]
    on_redis.stall()

    started = time.monotonic()
    with pytest.raises(
        TimeoutError, match="Redis did not answer within 0.5 s. Raise timeout, or check that the store is running"
    ):
        reader.item_codes([3, 4])

    assert time.monotonic() - started < 3.0  # redis-py's own time limit is 5 s
    on_redis.go_on()
    assert reader.item_codes([5]).codes.tolist() == [[0, 5]]


def test_items_of_a_stalled_redis_are_missing_where_the_caller_prefers_that(on_redis, open_reader, caplog):
    reader = open_reader(timeout=0.5, on_timeout="missing", cache_items=2)
    assert reader.item_codes([1]).codes.tolist() == [[0, 1]]
    on_redis.stall()

    batch = reader.item_codes([1, 2])
    both = reader.user_and_candidates(7, [1, 2])

    on_redis.go_on()
    assert batch.codes.tolist() == [[0, 1], [-1, -1]]  # item 1 is in the cache
    assert batch.found.tolist() == [True, False]
    assert (both.behavior.mask.shape, both.candidates.codes.tolist()) == ((1, 0), [[0, 1], [-1, -1]])
    assert "item_semantic_id__cb0: 1 rows are served as missing. Redis did not answer within 0.5 s" in caplog.text
    assert reader.item_codes([2]).codes.tolist() == [[0, 2]]


def test_a_lost_connection_is_made_anew(on_redis, open_reader):
    reader = open_reader()
    assert reader.item_codes([1]).codes.tolist() == [[0, 1]]

    on_redis.client().client_kill_filter(_type="normal")
    assert reader.item_codes([2]).codes.tolist() == [[0, 2]]

    on_redis.stop(keep=True)
    on_redis.start()
    assert reader.item_codes([3]).codes.tolist() == [[0, 3]]


def test_a_redis_that_is_gone_raises_or_is_missing(on_redis, open_reader):
    reader, tolerant = open_reader(), open_reader(on_timeout="missing")
    on_redis.stop(keep=False)

    with pytest.raises(
        ConnectionError, match="The connection to Redis was lost twice \\(.*\\)\\. Check that the store is running"
    ):
        reader.item_codes([1])
    assert tolerant.item_codes([1]).codes.tolist() == [[-1, -1]]


def test_a_wrong_password_is_never_a_missing_item(on_redis, open_reader):
    reader = open_reader(on_timeout="missing")
    on_redis.client().config_set("requirepass", "s3cret")

    with pytest.raises(OnlineStoreError, match=r"The online store \(Redis at .*\) failed: .* Set password= in"):
        reader.item_codes([1])


@pytest.mark.parametrize("kind", ["sqlite", "feast.infra.online_stores.sqlite.SqliteOnlineStore"])
def test_a_writer_that_locks_sqlite_is_waited_for_no_longer_than_the_timeout(tmp_path, kind, open_reader):
    path = tmp_path / "online.db"
    stock_store(tmp_path, {"type": kind, "path": str(path)}, ITEMS)
    reader, tolerant = open_reader(timeout=0.5), open_reader(timeout=0.5, on_timeout="missing")
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")

    with pytest.raises(TimeoutError, match=".* did not answer within 0.5 s. Raise timeout"):
        reader.item_codes([1])
    assert tolerant.item_codes([1]).codes.tolist() == [[-1, -1]]

    writer.execute("COMMIT")
    writer.close()
    assert reader.item_codes([1]).codes.tolist() == [[0, 1]]
