"""Servers of the feature store's tests: real ones, from Debian's packages or from the ``dev`` extra."""

from __future__ import annotations

import pytest
from feast.types import Int32

from tests.feature_store.online_repos import parquet_view
from tests.feature_store.postgres_server import PostgresServer
from tests.feature_store.redis_server import RedisServer


@pytest.fixture
def redis_server(tmp_path):
    """A running, empty Redis server; skips where no program of Redis is installed."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop(keep=False)


@pytest.fixture(scope="session")
def postgres_server():
    """A running PostgreSQL server; skips where no program of PostgreSQL is installed."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def ratings(spark, tmp_path):
    """Returns a view of (item_id, rating, day of January 2024, hour created) rows."""

    def view(*rows, **source):
        frame = spark.createDataFrame(rows, "item_id bigint, rating int, day int, hour int").selectExpr(
            "item_id", "rating", "make_timestamp(2024, 1, day, 0, 0, 0) AS event_timestamp",
            "make_timestamp(2024, 3, 1, hour, 0, 0) AS created",
        )  # fmt: skip
        return parquet_view(frame, tmp_path / "ratings", {"rating": Int32}, **source)

    return view
