"""Sources of rows of the online store, exactly as Feast wrote them: one serialized value per ID and feature, or None.

In: the section ``online_store`` of ``feature_store.yaml``. Out: bytes. Redis and SQLite are read directly, in Feast's own
layout and over the connection that Feast makes from its settings. Every other store is read through Feast's ``online_read``.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import feast.types
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig

from qarm_features.feature_store.feast_internals import online_store, sqlite_connection, stored_table_name
from qarm_features.feature_store.missing_packages import naming_the_extra
from qarm_features.feature_store.reading.row_queries import (
    AsyncOnlineRows,
    OnlineRows,
    Row,
    RowQuery,
    connection_error,
    entity_keys,
    timeout_error,
)

_LOST = ("OperationalError", "InterfaceError")  # names of the errors of DB-API drivers for a lost connection
_IDS_PER_SELECT = 10_000  # SQLite takes at most 32,766 variables
_THREADS = 32


def open_online_rows(config: RepoConfig, timeout: float | None) -> OnlineRows:
    """Open the fastest source of rows for threads.

    Args:
        config: Configuration of the feature repo.
        timeout: Time limit for a round trip in seconds; None leaves it to the store's client.
    """
    layout = _stock_layout(config)
    if layout == "redis":
        with naming_the_extra():
            from qarm_features.feature_store.reading.redis_rows import RedisRows
        return RedisRows(config, timeout)
    return SqliteRows(config, timeout) if layout == "sqlite" else FeastRows(config, timeout)


def open_async_online_rows(config: RepoConfig, timeout: float | None) -> AsyncOnlineRows:
    """Open the fastest source of rows for asyncio.

    Args:
        config: Configuration of the feature repo.
        timeout: Time limit for a round trip in seconds; None leaves it to the store's client.
    """
    if _stock_layout(config) == "redis":
        with naming_the_extra():
            from qarm_features.feature_store.reading.redis_rows import AsyncRedisRows
        return AsyncRedisRows(config, timeout)
    return RowsInThreads(open_online_rows(config, timeout))


def _stock_layout(config: RepoConfig) -> str | None:
    """Return the type of a store whose layout we may know; None where Feast serializes keys in another version."""
    return config.online_store.type if config.entity_key_serialization_version == 3 else None


class SqliteRows:
    """Rows of Feast's SQLite store, read by one SELECT. Threads share one connection and use it one at a time.

    Args:
        config: Configuration of the feature repo.
        timeout: Time limit in seconds for a lock of the file or of the connection; None sets none.
    """

    def __init__(self, config: RepoConfig, timeout: float | None) -> None:
        self._config, self._timeout = config, timeout
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def fetch(self, query: RowQuery) -> list[Row]:
        """Read one row per ID, see ``OnlineRows.fetch``. It may have to wait for the lock of a writer."""
        table = stored_table_name(self._config, query.view).replace('"', '""')
        keys = entity_keys(query.view, query.ids)
        values: dict[tuple[bytes, str], bytes] = {}
        if not self._lock.acquire(timeout=-1 if self._timeout is None else self._timeout):
            raise timeout_error(self._timeout, "SQLite")
        try:
            for start in range(0, len(keys), _IDS_PER_SELECT):
                some = keys[start : start + _IDS_PER_SELECT]
                marks, names = ",".join("?" * len(some)), ",".join("?" * len(query.features))
                select = (
                    f'SELECT entity_key, feature_name, value FROM "{table}" '
                    f"WHERE entity_key IN ({marks}) AND feature_name IN ({names})"
                )
                rows = self._connection().execute(select, [*some, *query.features]).fetchall()
                values.update({(key, name): value for key, name, value in rows})
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise timeout_error(self._timeout, "SQLite") from error
        finally:
            self._lock.release()
        return [[values.get((key, name)) for name in query.features] for key in keys]

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection().close()

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = sqlite_connection(self._config)
            if self._timeout is not None:
                self._opened.execute(f"PRAGMA busy_timeout = {round(self._timeout * 1000)}")
        return self._opened


class FeastRows:
    """Rows of any online store, read through Feast's ``online_read``.

    With a time limit, reads run in threads. A thread whose read takes too long is abandoned.

    Args:
        config: Configuration of the feature repo.
        timeout: Time limit for a round trip in seconds; None leaves it to the store's client.
    """

    def __init__(self, config: RepoConfig, timeout: float | None) -> None:
        self._config, self._timeout = config, timeout
        self._store = online_store(config)
        self._threads = ThreadPoolExecutor(_THREADS, "online-rows") if timeout is not None else None

    def fetch(self, query: RowQuery) -> list[Row]:
        """Read one row per ID, see ``OnlineRows.fetch``."""
        try:
            return self._within_timeout(query)
        except Exception as error:
            if not _is_lost(error):
                raise
            self._store = online_store(self._config)
        try:
            return self._within_timeout(query)
        except Exception as error:
            if not _is_lost(error):
                raise
            raise connection_error(self._config.online_store.type, error) from error

    def close(self) -> None:
        """End the threads. Feast has no way to close the connection of a store."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _within_timeout(self, query: RowQuery) -> list[Row]:
        if self._threads is None:
            return self._read(query)
        try:
            return self._threads.submit(self._read, query).result(self._timeout)
        except TimeoutError as error:
            raise timeout_error(self._timeout, self._config.online_store.type) from error

    def _read(self, query: RowQuery) -> list[Row]:
        column = query.view.entity_columns[0]
        if column.dtype == feast.types.String:
            ids = [Value(string_val=str(one)) for one in query.ids]
        else:
            ids = [Value(int64_val=int(one)) for one in query.ids]
        keys = [EntityKey(join_keys=[column.name], entity_values=[one]) for one in ids]
        rows = self._store.online_read(self._config, query.view, keys, list(query.features))
        return [
            [values[name].SerializeToString() if values and name in values else None for name in query.features]
            for _, values in rows
        ]


class RowsInThreads:
    """Rows for asyncio from a source that only threads can read.

    Args:
        rows: The source.
    """

    def __init__(self, rows: OnlineRows) -> None:
        self._rows = rows

    async def fetch(self, query: RowQuery) -> Sequence[Row]:
        """Read one row per ID, see ``OnlineRows.fetch``."""
        return await asyncio.to_thread(self._rows.fetch, query)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.to_thread(self._rows.close)


def _is_lost(error: Exception) -> bool:
    """Tell if an error says that the connection to the store was lost."""
    return isinstance(error, ConnectionError) or any(kind.__name__ in _LOST for kind in type(error).__mro__)
