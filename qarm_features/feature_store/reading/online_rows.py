"""Rows of the online store as Feast wrote them: for IDs and features of a view, one serialized value each, or None.

In: the ``online_store`` of ``feature_store.yaml``. Out: bytes. Redis and SQLite are asked directly, in the stock layout and
over the connection that Feast itself makes of its settings; every other store through Feast's own ``online_read``.
"""

from __future__ import annotations

import asyncio
import sqlite3
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import feast.types
from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.helpers import compute_table_id, get_online_store_from_config
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value, ValueType
from feast.repo_config import RepoConfig

Row = Sequence[bytes | None]  # a serialized value per feature; None or empty where the store has none

_LOST = ("OperationalError", "InterfaceError")  # how drivers of the DB-API name a lost connection
_IDS_PER_SELECT = 10_000  # SQLite takes 32,766 variables
_THREADS = 32


class RowQuery(NamedTuple):
    """What one round trip asks for.

    Attributes:
        view: The view, with one entity column of integers or strings.
        features: Names of features of the view.
        ids: IDs of entities, each once.
    """

    view: FeatureView
    features: tuple[str, ...]
    ids: list[int | str]


class OnlineRows(Protocol):
    """A source of rows that any number of threads may ask at once."""

    def fetch(self, query: RowQuery) -> Sequence[Row]:
        """Returns a row per ID, in one round trip.

        Raises:
            TimeoutError: The store did not answer in time.
            ConnectionError: The connection was lost twice in a row.
        """

    def close(self) -> None:
        """Closes all connections."""


class AsyncOnlineRows(Protocol):
    """A source of rows that any number of tasks on one loop may ask at once."""

    async def fetch(self, query: RowQuery) -> Sequence[Row]:
        """Returns a row per ID, in one round trip; raises as `OnlineRows.fetch`."""

    async def close(self) -> None:
        """Closes all connections."""


def open_online_rows(config: RepoConfig, timeout: float | None) -> OnlineRows:
    """Returns the fastest way that threads have to read the online store of ``config``; ``timeout`` in seconds."""
    kind = _stock_layout(config)
    if kind == "redis":
        from qarm_features.feature_store.reading.redis_rows import RedisRows

        return RedisRows(config, timeout)
    return SqliteRows(config, timeout) if kind == "sqlite" else FeastRows(config, timeout)


def open_async_online_rows(config: RepoConfig, timeout: float | None) -> AsyncOnlineRows:
    """Returns the fastest way that asyncio has to read the online store of ``config``; ``timeout`` in seconds."""
    if _stock_layout(config) == "redis":
        from qarm_features.feature_store.reading.redis_rows import AsyncRedisRows

        return AsyncRedisRows(config, timeout)
    return RowsInThreads(open_online_rows(config, timeout))


def _stock_layout(config: RepoConfig) -> str | None:
    return config.online_store.type if config.entity_key_serialization_version == 3 else None


def entity_keys(view: FeatureView, ids: Sequence[int | str]) -> list[bytes]:
    """Returns the keys under which Feast stores entities: its ``serialize_entity_key``, version 3, for one entity column."""
    column = view.entity_columns[0]
    prefix = serialize_entity_key_prefix([column.name], entity_key_serialization_version=3)
    if column.dtype == feast.types.String:
        encoded = [entity_id.encode() for entity_id in ids]
        pack = struct.Struct("<II").pack
        return [prefix + pack(ValueType.STRING, len(one)) + one for one in encoded]
    pack = struct.Struct("<IIq").pack
    return [prefix + pack(ValueType.INT64, 8, entity_id) for entity_id in ids]


def no_answer(timeout: float | None, store: str) -> TimeoutError:
    """Returns the error of a store that did not answer in time."""
    limit = "the store's own limit" if timeout is None else f"{timeout} s"
    return TimeoutError(f"timeout is {limit}, {store} did not answer in it. Raise it, or look at the store.")


def lost_connection(store: str, error: Exception) -> ConnectionError:
    """Returns the error of a store whose connection was lost twice in a row."""
    return ConnectionError(f"The connection to {store} was lost twice ({error}), must hold. Look at the store.")


class SqliteRows:
    """Rows of Feast's SQLite store: one SELECT; threads take turns on one connection, as SQLite itself would have them."""

    def __init__(self, config: RepoConfig, timeout: float | None):
        self._config, self._timeout = config, timeout
        self._turn = threading.Lock()
        self._store = SqliteOnlineStore()

    def fetch(self, query: RowQuery) -> list[Row]:
        """Returns a row per ID; see `OnlineRows.fetch`. A writer's lock is what it may have to wait for."""
        versioned = self._config.registry.enable_online_feature_view_versioning
        table = compute_table_id(self._config.project, query.view, versioned).replace('"', '""')
        keys = entity_keys(query.view, query.ids)
        found: dict[tuple[bytes, str], bytes] = {}
        if not self._turn.acquire(timeout=-1 if self._timeout is None else self._timeout):
            raise no_answer(self._timeout, "SQLite")
        try:
            for start in range(0, len(keys), _IDS_PER_SELECT):
                some = keys[start : start + _IDS_PER_SELECT]
                marks, names = ",".join("?" * len(some)), ",".join("?" * len(query.features))
                select = (
                    f'SELECT entity_key, feature_name, value FROM "{table}" '
                    f"WHERE entity_key IN ({marks}) AND feature_name IN ({names})"
                )
                rows = self._connection().execute(select, [*some, *query.features]).fetchall()
                found.update({(key, name): value for key, name, value in rows})
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise no_answer(self._timeout, "SQLite") from error
        finally:
            self._turn.release()
        return [[found.get((key, name)) for name in query.features] for key in keys]

    def close(self) -> None:
        """Closes the connection; see `OnlineRows.close`."""
        with self._turn:
            self._connection().close()

    def _connection(self) -> sqlite3.Connection:
        is_new = self._store._conn is None
        connection = self._store._get_conn(self._config)
        if is_new and self._timeout is not None:
            connection.execute(f"PRAGMA busy_timeout = {round(self._timeout * 1000)}")
        return connection


class FeastRows:
    """Rows of any online store, through Feast's ``online_read``; in a thread that is given up where it takes too long."""

    def __init__(self, config: RepoConfig, timeout: float | None):
        self._config, self._timeout = config, timeout
        self._store = get_online_store_from_config(config.online_store)
        self._threads = ThreadPoolExecutor(_THREADS, "online-rows") if timeout is not None else None

    def fetch(self, query: RowQuery) -> list[Row]:
        """Returns a row per ID; see `OnlineRows.fetch`."""
        try:
            return self._within_timeout(query)
        except Exception as error:
            if not _is_lost(error):
                raise
            self._store = get_online_store_from_config(self._config.online_store)
        try:
            return self._within_timeout(query)
        except Exception as error:
            if not _is_lost(error):
                raise
            raise lost_connection(self._config.online_store.type, error) from error

    def close(self) -> None:
        """Lets go of the threads; see `OnlineRows.close`. Feast has no way to close a store's connection."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _within_timeout(self, query: RowQuery) -> list[Row]:
        if self._threads is None:
            return self._read(query)
        try:
            return self._threads.submit(self._read, query).result(self._timeout)
        except TimeoutError as error:
            raise no_answer(self._timeout, self._config.online_store.type) from error

    def _read(self, query: RowQuery) -> list[Row]:
        column = query.view.entity_columns[0]
        field = "string_val" if column.dtype == feast.types.String else "int64_val"
        keys = [EntityKey(join_keys=[column.name], entity_values=[Value(**{field: one})]) for one in query.ids]
        rows = self._store.online_read(self._config, query.view, keys, list(query.features))
        return [
            [values[name].SerializeToString() if values and name in values else None for name in query.features]
            for _, values in rows
        ]


class RowsInThreads:
    """Rows for asyncio of a store that only threads can read."""

    def __init__(self, rows: OnlineRows):
        self._rows = rows

    async def fetch(self, query: RowQuery) -> Sequence[Row]:
        """Returns a row per ID; see `OnlineRows.fetch`."""
        return await asyncio.to_thread(self._rows.fetch, query)

    async def close(self) -> None:
        """Closes all connections."""
        await asyncio.to_thread(self._rows.close)


def _is_lost(error: Exception) -> bool:
    return isinstance(error, ConnectionError) or any(kind.__name__ in _LOST for kind in type(error).__mro__)
