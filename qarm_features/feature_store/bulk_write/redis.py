"""Writes encoded rows to Redis in Feast's layout: single server, sentinel or cluster, as feature_store.yaml says.

A chunk is one buffer over one connection of the Spark task. A lost connection is tried again; a chunk that was written in
part is written whole, which changes nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp
from redis import Redis, RedisCluster, exceptions

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
from qarm_features.feature_store.bulk_write.redis_lines import line_pool

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
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RedisTarget:
    """Where and how to write; travels to executors.

    Attributes:
        view: The view.
        server: Keyword arguments of ``redis.Redis`` for a single server; None for sentinel and cluster, which Feast's own
            store opens from ``config``.
        config: The ``online_store`` section.
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
        """Reads the settings as Feast's Redis store does."""
        from feast.infra.online_stores.redis import RedisOnlineStore, RedisType

        server = None
        if config.redis_type == RedisType.redis:
            nodes, server = RedisOnlineStore._parse_connection_string(config.connection_string)
            server |= nodes[0]
        return cls(
            view=view,
            server=server,
            config=None if server else config,
            ttl_seconds=config.key_ttl_seconds,
            skip_dedup=config.skip_dedup,
            patience=patience,
        )

    def open(self) -> RedisWriter:
        """Returns a writer with a connection of its own; it connects when it first writes."""
        if self.server is not None:
            return RedisWriter(self, Redis(**(self.server | {"protocol": 2})))
        from feast.infra.online_stores.redis import RedisOnlineStore

        old_protocol = {"connection_string": f"{self.config.connection_string},protocol=2"}
        return RedisWriter(self, RedisOnlineStore()._get_client(self.config.model_copy(update=old_protocol)))


class RedisWriter:
    """Writes chunks over one connection.

    Args:
        target: Where and how.
        client: A client that has made no connection yet, or of a cluster.
    """

    def __init__(self, target: RedisTarget, client: Redis | RedisCluster):
        self._target = target
        self._client = client
        self._lines = None if isinstance(client, RedisCluster) else line_pool(client.connection_pool)
        self._connection = None

    def write(self, batch: pa.RecordBatch) -> int:
        """Writes a chunk.

        Returns:
            How many rows were written: without ``skip_dedup`` those that are no newer than the stored ones are left out.
        """
        rows = encode_rows(batch, self._target.view)
        found = hashes(rows, self._target.view)
        if not self._target.skip_dedup:
            newer = self._patiently(lambda: self._newer(found.keys, rows.timestamps))
            chosen = pa.array(newer)
            found = Hashes(found.keys.take(chosen), found.fields, [value.take(chosen) for value in found.values])
        if len(found.keys):
            self._patiently(lambda: self._set(found))
        return len(found.keys)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _patiently(self, attempt):
        return try_again(
            attempt,
            lost=lambda error: isinstance(error, _PASSING) and not isinstance(error, _LASTING),
            patience=self._target.patience,
            store="Redis",
        )

    def _set(self, rows: Hashes) -> None:
        ttl = self._target.ttl_seconds
        if self._lines is not None:
            self._send(hset_commands(rows, ttl)).integers(len(rows.keys) * (2 if ttl else 1))
            return
        with self._client.pipeline(transaction=False) as pipe:
            names = rows.fields
            for key, *values in zip(rows.keys.to_pylist(), *[value.to_pylist() for value in rows.values]):
                pipe.execute_command("HSET", key, *[word for pair in zip(names, values) for word in pair])
                if ttl:
                    pipe.expire(key, ttl)
            pipe.execute()

    def _newer(self, keys: pa.LargeBinaryArray, microseconds: np.ndarray) -> np.ndarray:
        """Returns the positions of rows newer than the stored one and than those before them in the chunk."""
        name = timestamp_field(self._target.view)
        if self._lines is not None:
            stored = self._send(hget_commands(keys, name)).strings(len(keys))
        else:
            with self._client.pipeline(transaction=False) as pipe:
                for key in keys.to_pylist():
                    pipe.hget(key, name)
                stored = pipe.execute()
        latest: dict[bytes, int] = {}
        newer = []
        for position, (key, before, now) in enumerate(zip(keys.to_pylist(), stored, microseconds.tolist())):
            seen = max(_microseconds(before), latest.get(key, 0))
            if not seen or now > seen:  # 0 is "never" to Feast
                latest[key] = now
                newer.append(position)
        return np.array(newer, dtype=np.int64)

    def _send(self, commands: pa.LargeBinaryArray):
        if self._connection is None:
            self._connection = self._lines.get_connection()
        data, offsets = contents(commands)
        self._connection.send_packed_command([memoryview(data)[offsets[0] : offsets[-1]]], check_health=False)
        return self._connection


def _microseconds(stored: bytes | None) -> int:
    if not stored:
        return 0
    timestamp = Timestamp.FromString(stored)
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1000
