"""Rows of Feast's Redis store: one packed pipeline of HMGET per round trip, for threads and for asyncio.

In: ``online_store`` of ``feature_store.yaml``; TLS, passwords, sentinel and cluster are Feast's own settings, and Feast makes
the client of them. Out: rows as `online_rows` has them. A key is the serialized entity key and the project; a field is the
hash of the view's and the feature's name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.repo_config import RepoConfig
from redis import RedisCluster, exceptions
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from qarm_features.feature_store.reading.online_rows import Row, RowQuery, entity_keys, lost_connection, no_answer

_REFUSED = (exceptions.AuthenticationError, exceptions.AuthorizationError)  # redis-py counts them as lost connections


class _Layout:
    """Where Feast keeps rows in Redis."""

    def __init__(self, config: RepoConfig):
        self._project = config.project.encode()
        self._versioned = config.registry.enable_online_feature_view_versioning

    def keys(self, query: RowQuery) -> list[bytes]:
        """Returns the key of each ID's hash."""
        return [key + self._project for key in entity_keys(query.view, query.ids)]

    def fields(self, query: RowQuery) -> list[bytes]:
        """Returns the field of each feature."""
        name = compute_versioned_name(query.view, self._versioned)
        return [_mmh3(f"{name}:{feature}") for feature in query.features]

    def packed(self, query: RowQuery) -> bytes:
        """Returns an HMGET per ID in Redis' protocol: a third of what redis-py takes to pack them one by one."""
        fields = b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in self.fields(query))
        start = b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(query.features))
        return b"".join([b"%b$%d\r\n%b\r\n%b" % (start, len(key), key, fields) for key in self.keys(query)])


class RedisRows:
    """Rows by redis-py's blocking client; ``timeout`` seconds for each answer, None leaves redis-py's own."""

    def __init__(self, config: RepoConfig, timeout: float | None):
        self._layout, self._timeout = _Layout(config), timeout
        self._client = RedisOnlineStore()._get_client(_limited(config.online_store, timeout))
        self._client.set_retry(Retry(NoBackoff(), 1, (exceptions.ConnectionError,)))

    def fetch(self, query: RowQuery) -> Sequence[Row]:
        """Returns a row per ID; see `OnlineRows.fetch`."""
        try:
            return self._by_slots(query) if isinstance(self._client, RedisCluster) else self._exchange(query)
        except _REFUSED:
            raise
        except exceptions.TimeoutError as error:
            raise no_answer(self._timeout, "Redis") from error
        except exceptions.ConnectionError as error:
            raise lost_connection("Redis", error) from error

    def close(self) -> None:
        """Closes all connections."""
        self._client.close()

    def _exchange(self, query: RowQuery) -> list[Row]:
        packed, pool = self._layout.packed(query), self._client.connection_pool
        connection = pool.get_connection()
        try:
            return connection.retry.call_with_retry(
                lambda: self._answers(connection, packed, len(query.ids)), lambda _: connection.disconnect()
            )
        except BaseException:
            connection.disconnect()  # answers that nobody waits for must not be the next caller's
            raise
        finally:
            pool.release(connection)

    def _answers(self, connection, packed: bytes, count: int) -> list[Row]:
        connection.send_packed_command([packed])
        return [connection.read_response(disable_decoding=True) for _ in range(count)]

    def _by_slots(self, query: RowQuery) -> list[Row]:
        fields = self._layout.fields(query)
        with self._client.pipeline() as pipe:
            for key in self._layout.keys(query):
                pipe.hmget(key, fields)
            return pipe.execute()


class AsyncRedisRows:
    """Rows by redis-py's asyncio client, on the loop that runs the first `fetch`; ``timeout`` as in `RedisRows`."""

    def __init__(self, config: RepoConfig, timeout: float | None):
        self._layout, self._timeout = _Layout(config), timeout
        self._config, self._store = config.online_store, RedisOnlineStore()
        self._client = None

    async def fetch(self, query: RowQuery) -> Sequence[Row]:
        """Returns a row per ID; see `OnlineRows.fetch`."""
        try:
            async with asyncio.timeout(self._timeout):
                client = await self._connected()
                return await (self._by_slots(query) if isinstance(client, AsyncRedisCluster) else self._exchange(query))
        except _REFUSED:
            raise
        except (TimeoutError, exceptions.TimeoutError) as error:
            raise no_answer(self._timeout, "Redis") from error
        except exceptions.ConnectionError as error:
            raise lost_connection("Redis", error) from error

    async def close(self) -> None:
        """Closes all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _connected(self):
        if self._client is None:
            self._client = await self._store._get_client_async(self._config)
            self._client.set_retry(AsyncRetry(NoBackoff(), 1, (exceptions.ConnectionError,)))
        return self._client

    async def _exchange(self, query: RowQuery) -> list[Row]:
        packed, pool = self._layout.packed(query), self._client.connection_pool
        connection = await pool.get_connection()
        try:
            return await connection.retry.call_with_retry(
                lambda: self._answers(connection, packed, len(query.ids)), lambda _: connection.disconnect()
            )
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)

    async def _answers(self, connection, packed: bytes, count: int) -> list[Row]:
        await connection.send_packed_command([packed])
        return [await connection.read_response(disable_decoding=True) for _ in range(count)]

    async def _by_slots(self, query: RowQuery) -> list[Row]:
        fields = self._layout.fields(query)
        pipe = self._client.pipeline()
        for key in self._layout.keys(query):
            pipe.hmget(key, fields)
        return await pipe.execute()


def _limited(config: RedisOnlineStoreConfig, timeout: float | None) -> RedisOnlineStoreConfig:
    if timeout is None:
        return config
    limits = f",socket_timeout={timeout},socket_connect_timeout={timeout}"
    return config.model_copy(update={"connection_string": config.connection_string + limits})
