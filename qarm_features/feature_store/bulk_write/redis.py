"""Writes encoded rows to Redis in Feast's layout: to a single server, behind sentinels or to a cluster.

In: Arrow batches of a view's latest rows, and the connection that feature_store.yaml names. Out: hashes in Redis. A Spark
task sends each chunk as one buffer over its own connection. After a lost connection the whole chunk is sent again, which
gives the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # protobuf ships no type stubs
from redis import ConnectionPool, Redis, RedisCluster, exceptions

from qarm_features.feature_store.bulk_write.back_off import try_again
from qarm_features.feature_store.bulk_write.byte_columns import contents
from qarm_features.feature_store.bulk_write.encoded_rows import OnlineView, encode_rows
from qarm_features.feature_store.bulk_write.redis_commands import (
    Hashes,
    hashes,
    hget_commands,
    hset_commands,
    timestamp_field,
)
from qarm_features.feature_store.bulk_write.redis_lines import ReplyLines, line_pool
from qarm_features.feature_store.feast_internals import redis_client, redis_server_options

if TYPE_CHECKING:
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig

_PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
)
_LASTING = (exceptions.AuthenticationError, exceptions.AuthorizationError)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class RedisTarget:
    """The Redis to write to and the way to write, which Spark sends to executors.

    Attributes:
        view: View of the rows.
        server: Keyword arguments of ``redis.Redis`` for a single server; None for sentinels and clusters.
        config: Section ``online_store``, from which Feast connects to sentinels and clusters; None for a single server, so
            that executors need no Feast.
        ttl_seconds: Seconds after which a hash expires; None for never.
        skip_dedup: True to write all rows, False to leave out rows that are no newer than the stored ones.
        patience: Seconds for which a lost server is tried again.
    """

    view: OnlineView
    server: dict[str, Any] | None = field(repr=False)
    config: RedisOnlineStoreConfig | None = field(repr=False)
    ttl_seconds: int | None
    skip_dedup: bool
    patience: float

    @classmethod
    def of(cls, view: OnlineView, config: RedisOnlineStoreConfig, patience: float) -> RedisTarget:
        """Make the target of a view from the settings of Feast's Redis store."""
        server = redis_server_options(config)
        return cls(
            view=view,
            server=server,
            config=None if server else config,
            ttl_seconds=config.key_ttl_seconds,
            skip_dedup=config.skip_dedup,
            patience=patience,
        )

    def open(self) -> RedisWriter:
        """Return a writer with a connection of its own, which connects with its first write."""
        return RedisWriter(self, open_client(self.server, self.config))


def open_client(server: dict[str, Any] | None, config: RedisOnlineStoreConfig | None) -> Redis | RedisCluster:
    """Make a client with protocol 2, which connects with its first command.

    Args:
        server: Keyword arguments of ``redis.Redis`` for a single server; None for sentinels and clusters.
        config: Section ``online_store`` for sentinels and clusters; None for a single server.
    """
    if server is not None:
        return Redis(**(server | {"protocol": 2}))
    assert config is not None
    old_protocol = {"connection_string": f"{config.connection_string},protocol=2"}
    return redis_client(config.model_copy(update=old_protocol))


def is_passing(error: Exception) -> bool:
    """Tell if an error may pass by itself, for example because a server starts again."""
    return isinstance(error, _PASSING) and not isinstance(error, _LASTING)


class RedisWriter:
    """Writes chunks over one connection.

    Args:
        target: The Redis to write to and the way to write.
        client: Client of a cluster, or a client that has opened no connection yet.
    """

    def __init__(self, target: RedisTarget, client: Redis | RedisCluster) -> None:
        self._target = target
        self._client = client
        self._pool = None if isinstance(client, RedisCluster) else line_pool(client.connection_pool)
        self._connection: ReplyLines | None = None

    def write(self, batch: pa.RecordBatch) -> int:
        """Write a chunk.

        Returns:
            Number of rows written. Without ``skip_dedup``, rows that are no newer than the stored ones are left out.
        """
        rows = encode_rows(batch, self._target.view)
        encoded = hashes(rows, self._target.view)
        if not self._target.skip_dedup:
            newer = pa.array(self._patiently(lambda: self._newer(encoded.keys, rows.timestamps)))
            encoded = Hashes(encoded.keys.take(newer), encoded.fields, [value.take(newer) for value in encoded.values])
        if len(encoded.keys):
            self._patiently(lambda: self._set(encoded))
        return len(encoded.keys)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _patiently(self, attempt: Callable[[], _Result]) -> _Result:
        return try_again(
            attempt,
            lost=is_passing,
            patience=self._target.patience,
            store="Redis",
        )

    def _set(self, rows: Hashes) -> None:
        ttl = self._target.ttl_seconds
        if self._pool is not None:
            replies = 2 if ttl else 1  # of a row: to HSET, and to EXPIRE
            self._send(self._pool, hset_commands(rows, ttl)).integers(len(rows.keys) * replies)
            return
        with self._client.pipeline(transaction=False) as pipe:
            names = rows.fields
            for key, *values in zip(rows.keys.to_pylist(), *[value.to_pylist() for value in rows.values]):
                pipe.execute_command("HSET", key, *[word for pair in zip(names, values) for word in pair])
                if ttl:
                    pipe.expire(key, ttl)
            pipe.execute()

    def _newer(self, keys: pa.LargeBinaryArray, microseconds: np.ndarray) -> np.ndarray:
        """Return the positions of the rows that are newer than the stored row and than earlier rows of the chunk.

        Args:
            keys: (B,) keys of the hashes.
            microseconds: (B,) int64, event times since 1970.
        """
        name = timestamp_field(self._target.view)
        if self._pool is not None:
            stored = self._send(self._pool, hget_commands(keys, name)).strings(len(keys))
        else:
            with self._client.pipeline(transaction=False) as pipe:
                for key in keys.to_pylist():
                    pipe.hget(key, name)
                stored = pipe.execute()
        latest: dict[bytes, int] = {}
        newer = []
        for position, (key, before, now) in enumerate(zip(keys.to_pylist(), stored, microseconds.tolist())):
            seen = max(_microseconds(before), latest.get(key, 0))
            if not seen or now > seen:  # Feast reads 0 as "never"
                latest[key] = now
                newer.append(position)
        return np.array(newer, dtype=np.int64)

    def _send(self, pool: ConnectionPool, commands: pa.LargeBinaryArray) -> ReplyLines:
        """Send commands over the writer's connection, and return the connection to read the replies from."""
        connection = self._connection or pool.get_connection()
        assert isinstance(connection, ReplyLines)
        self._connection = connection
        data, offsets = contents(commands)
        connection.send_packed_command([data[offsets[0] : offsets[-1]].data], check_health=False)
        return connection


def _microseconds(stored: bytes | None) -> int:
    """Return a stored event time in microseconds since 1970, 0 where there is none."""
    if not stored:
        return 0
    timestamp = Timestamp.FromString(stored)
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1000
