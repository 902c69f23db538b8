"""The work of a Spark task on entities whose rows must leave the online store.

In: Arrow batches of serialized entity keys. Out: the rows of these entities are deleted from one view, and their number.
SQLite and PostgreSQL lose rows of the view's table. Redis loses the view's fields in each entity's hash, and keeps those of
other views.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from qarm_features.feature_store.bulk_write.back_off import try_again
from qarm_features.feature_store.bulk_write.entity_key_bytes import entity_key_bytes
from qarm_features.feature_store.feast_internals import (
    postgres_connection,
    redis_field,
    redis_server_options,
    sqlite_path,
    stored_table_name,
    stored_view_name,
)

if TYPE_CHECKING:
    from feast import FeatureView, RepoConfig
    from feast.infra.common.serde import SerializedArtifacts
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig

_KEYS_PER_DELETE = 5_000
_PATIENCE = 120.0


class Deleter(Protocol):
    """An open connection to an online store."""

    def delete(self, keys: list[bytes]) -> int:
        """Delete the rows of these serialized entity keys and return the number of entities that had rows."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class DeleterTarget(Protocol):
    """A description of a view in an online store, which Spark sends to executors."""

    def open(self) -> Deleter:
        """Open a connection."""
        ...


def deleter_target(config: RepoConfig, view: FeatureView) -> DeleterTarget | None:
    """Return the target of a view; None if rows of single entities cannot be deleted in the online store."""
    kind = config.online_store.type
    if kind == "redis" and config.entity_key_serialization_version == 3:
        name, store = stored_view_name(config, view), config.online_store
        fields = [f"_ts:{name}".encode(), *[redis_field(name, feature.name) for feature in view.features]]
        server = redis_server_options(store)
        return RedisTarget(server, None if server else store, config.project.encode(), tuple(fields))
    table = '"' + stored_table_name(config, view).replace('"', '""') + '"'
    if kind == "sqlite":
        return SqliteTarget(os.path.abspath(sqlite_path(config)), table)
    if kind == "postgres":
        from feast.infra.common.serde import SerializedArtifacts

        return PostgresTarget(SerializedArtifacts.serialize(feature_view=view, repo_config=config), table)
    return None


def encode_keys(
    batches: Iterator[pa.RecordBatch], *, name: str, value_type: str, version: int
) -> Iterator[pa.RecordBatch]:
    """Serialize the IDs of a task as Feast's online stores do.

    Args:
        batches: Batches with one column of IDs.
        name: Name of the join key.
        value_type: Name of its Feast ``ValueType``.
        version: Setting ``entity_key_serialization_version`` of feature_store.yaml.

    Yields:
        Batches with the column ``entity_key``.
    """
    for batch in batches:
        keys = entity_key_bytes({name: batch.column(0)}, {name: value_type}, version)
        yield pa.RecordBatch.from_arrays([keys.cast(pa.binary())], ["entity_key"])


def delete_rows(batches: Iterator[pa.RecordBatch], *, target: DeleterTarget) -> Iterator[pa.RecordBatch]:
    """Delete the rows of a task's keys over one connection.

    Args:
        batches: Batches with the column ``entity_key`` of serialized entity keys.
        target: Target that opens the connection.

    Yields:
        One batch with one row: the number of entities that had rows.
    """
    deleter: Deleter | None = None
    deleted = 0
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, _KEYS_PER_DELETE):
                deleter = deleter or target.open()
                keys = batch.column("entity_key").slice(start, _KEYS_PER_DELETE).to_pylist()
                deleted += deleter.delete(keys)
    finally:
        if deleter is not None:
            deleter.close()
    yield pa.RecordBatch.from_pydict({"rows": [deleted]}, pa.schema([("rows", pa.int64())]))


@dataclass(frozen=True)
class RedisTarget:
    """A view in Redis.

    Attributes:
        server: Keyword arguments of ``redis.Redis`` for a single server; None for sentinels and clusters.
        config: Section ``online_store`` for sentinels and clusters; None for a single server.
        project: Name of the Feast project.
        fields: Fields of the view in the hash of an entity.
    """

    server: dict[str, Any] | None = field(repr=False)
    config: RedisOnlineStoreConfig | None = field(repr=False)
    project: bytes
    fields: tuple[bytes, ...]

    def open(self) -> RedisDeleter:
        """Connect to Redis."""
        return RedisDeleter(self)


class RedisDeleter:
    """Deletes fields by pipelines of HDEL. Redis removes a hash that has no fields left.

    Args:
        target: View in Redis.
    """

    def __init__(self, target: RedisTarget) -> None:
        from qarm_features.feature_store.bulk_write.redis import is_passing, open_client

        self._target, self._is_passing = target, is_passing
        self._client = open_client(target.server, target.config)

    def delete(self, keys: list[bytes]) -> int:
        """Delete the view's fields in the hashes of entities."""
        return try_again(lambda: self._delete(keys), lost=self._is_passing, patience=_PATIENCE, store="Redis")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _delete(self, keys: list[bytes]) -> int:
        with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hdel(key + self._target.project, *self._target.fields)
            return sum(map(bool, pipe.execute()))


@dataclass(frozen=True)
class SqliteTarget:
    """A view in a SQLite file.

    Attributes:
        path: Path of the file.
        table: Quoted name of the view's table.
    """

    path: str
    table: str

    def open(self) -> SqliteDeleter:
        """Open the file."""
        return SqliteDeleter(self)


class SqliteDeleter:
    """Deletes rows in short transactions.

    Args:
        target: View in a SQLite file.
    """

    def __init__(self, target: SqliteTarget) -> None:
        from qarm_features.feature_store.bulk_write.sqlite import is_locked, open_file

        self._target, self._is_locked = target, is_locked
        self._database = open_file(target.path)

    def delete(self, keys: list[bytes]) -> int:
        """Delete the rows of entities."""
        return try_again(lambda: self._delete(keys), lost=self._is_locked, patience=_PATIENCE, store=self._target.path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _delete(self, keys: list[bytes]) -> int:
        delete = f"DELETE FROM {self._target.table} WHERE entity_key = ?"
        with self._database as database:
            database.execute("BEGIN IMMEDIATE")
            return sum(database.execute(delete, (sqlite3.Binary(key),)).rowcount > 0 for key in keys)


@dataclass(frozen=True)
class PostgresTarget:
    """A view in PostgreSQL.

    Attributes:
        artifacts: The view and the configuration of the repo, as Feast sends them to executors.
        table: Quoted name of the view's table.
    """

    artifacts: SerializedArtifacts
    table: str

    def open(self) -> PostgresDeleter:
        """Connect to PostgreSQL."""
        return PostgresDeleter(self)


class PostgresDeleter:
    """Deletes rows, one statement per chunk.

    Args:
        target: View in PostgreSQL.
    """

    def __init__(self, target: PostgresTarget) -> None:
        *_, config = target.artifacts.unserialize()
        self._table = target.table
        self._opened = postgres_connection(config)
        self._connection = self._opened.__enter__()

    def delete(self, keys: list[bytes]) -> int:
        """Delete the rows of entities."""
        delete = f"DELETE FROM {self._table} WHERE entity_key = ANY(%s) RETURNING entity_key"
        count = f"WITH gone AS ({delete}) SELECT COUNT(DISTINCT entity_key) FROM gone"
        with self._connection.transaction():
            return int(self._connection.execute(count, (keys,)).fetchone()[0])

    def close(self) -> None:
        """Commit and close the connection."""
        self._opened.__exit__(None, None, None)
