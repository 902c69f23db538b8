"""Names of Feast and redis-py that are not part of their public interface, all on this page.

The other modules of ``feature_store`` call these functions and use no private name of Feast themselves. All names were
checked with Feast 0.67.0 and redis-py 8.1. After an upgrade of either, run ``tests/feature_store``: the tests compare our
rows with those that stock Feast writes and reads.

Feast is imported when a function is called. Executors that write to Redis or SQLite therefore do not load Feast, which
takes a Python worker seconds.

Three more internal names cannot stand here, because ``bulk_engine.BulkEngine`` overrides or inherits them:
``SparkComputeEngine._materialize_one`` loads one view, ``_get_feature_view_spark_session`` returns the Spark session of a
view, and ``_get_feature_view_engine_config`` returns the section ``batch_engine`` with the view's own options.
"""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureView, Field, RepoConfig
    from feast.infra.online_stores.online_store import OnlineStore
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig
    from feast.infra.registry.base_registry import BaseRegistry
    from pyspark.sql import SparkSession
    from redis import Redis, RedisCluster
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster
    from redis.connection import AbstractConnection
    from sqlalchemy import Engine

CHECKED_FEAST = "0.67"


# Names and keys in online stores.


def stored_view_name(config: RepoConfig, view: FeatureView) -> str:
    """Return a view's name in the online store: ``compute_versioned_name``, with a version if the registry keeps them."""
    from feast.infra.online_stores.helpers import compute_versioned_name

    return compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)


def stored_table_name(config: RepoConfig, view: FeatureView) -> str:
    """Return the name of a view's table in a SQL store: ``compute_table_id``, not quoted."""
    from feast.infra.online_stores.helpers import compute_table_id

    return compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)


def entity_key_prefix(join_keys: list[str]) -> bytes:
    """Return the bytes before the values of an entity key: ``serialize_entity_key_prefix``, serialization version 3."""
    from feast.infra.key_encoding_utils import serialize_entity_key_prefix

    return serialize_entity_key_prefix(join_keys, entity_key_serialization_version=3)


def redis_field(view_name: str, feature: str) -> bytes:
    """Return the field of a feature in an entity's hash: ``_mmh3`` (murmur3, 32 bits, little endian) of both names."""
    from feast.infra.online_stores.helpers import _mmh3

    return _mmh3(f"{view_name}:{feature}")


# Connections to online stores.


def online_store(config: RepoConfig) -> OnlineStore:
    """Make the online store that ``feature_store.yaml`` names: ``get_online_store_from_config``."""
    from feast.infra.online_stores.helpers import get_online_store_from_config

    return get_online_store_from_config(config.online_store)


def redis_client(config: RedisOnlineStoreConfig) -> Redis | RedisCluster:
    """Make a Redis client for threads from Feast's settings: ``RedisOnlineStore._get_client``."""
    from feast.infra.online_stores.redis import RedisOnlineStore

    return RedisOnlineStore()._get_client(config)


async def async_redis_client(config: RedisOnlineStoreConfig) -> AsyncRedis | AsyncRedisCluster:
    """Make a Redis client for asyncio from Feast's settings: ``RedisOnlineStore._get_client_async``."""
    from feast.infra.online_stores.redis import RedisOnlineStore

    return await RedisOnlineStore()._get_client_async(config)


def redis_server_options(config: RedisOnlineStoreConfig) -> dict[str, Any] | None:
    """Return keyword arguments of ``redis.Redis`` for a single server, by ``RedisOnlineStore._parse_connection_string``.

    Returns None for a cluster and for servers behind sentinels, which need more than one address.
    """
    from feast.infra.online_stores.redis import RedisOnlineStore, RedisType

    if config.redis_type != RedisType.redis:
        return None
    servers, options = RedisOnlineStore._parse_connection_string(config.connection_string)
    return options | servers[0]


def receive_bytes(connection: AbstractConnection, size: int) -> bytes:
    """Receive up to ``size`` bytes from the socket of a connection of redis-py: ``_sock``."""
    return connection._sock.recv(size)  # type: ignore[attr-defined]  # redis-py declares the socket in its subclasses only


def sqlite_path(config: RepoConfig) -> str:
    """Return the path of the SQLite file, relative to the working directory: ``SqliteOnlineStore._get_db_path``."""
    from feast.infra.online_stores.sqlite import SqliteOnlineStore

    return SqliteOnlineStore._get_db_path(config)


def sqlite_connection(config: RepoConfig) -> sqlite3.Connection:
    """Open the SQLite file as Feast does: ``SqliteOnlineStore._get_conn``, which keeps the connection in ``_conn``."""
    from feast.infra.online_stores.sqlite import SqliteOnlineStore

    return SqliteOnlineStore()._get_conn(config)


@contextlib.contextmanager
def postgres_connection(config: RepoConfig) -> Iterator[Any]:
    """Open the PostgreSQL database of the online store and close it: ``postgres.connection_utils._get_conn``."""
    from feast.infra.utils.postgres.connection_utils import _get_conn

    with _get_conn(config.online_store) as connection:
        yield connection


PARAMETER_MARKS = {"sqlite": "?", "postgres": "%s"}  # of a parameter in the SQL of the stores that are databases


@contextlib.contextmanager
def database_connection(config: RepoConfig) -> Iterator[Any]:
    """Open the database of an online store in ``PARAMETER_MARKS``, and close it."""
    if config.online_store.type == "postgres":
        with postgres_connection(config) as connection:
            yield connection
    else:
        with contextlib.closing(sqlite_connection(config)) as connection:
            yield connection


# Rows of a view.


def rows_for_store(batch: pa.RecordBatch, view: FeatureView, key_types: dict[str, Any]) -> list[tuple]:
    """Convert rows for ``OnlineStore.online_write_batch``: ``feast.utils._convert_arrow_to_proto``.

    Args:
        batch: Rows with the columns of the view.
        view: View of the rows.
        key_types: Feast value type of each join key.
    """
    from feast.utils import _convert_arrow_to_proto

    return _convert_arrow_to_proto(batch, view, key_types)


def vector_field(view: FeatureView) -> Field | None:
    """Return the field of a view that declares a vector index: ``feast.utils._get_feature_view_vector_field_metadata``."""
    from feast.utils import _get_feature_view_vector_field_metadata

    return _get_feature_view_vector_field_metadata(view)


# Registry.


def registry_snapshot(registry: BaseRegistry) -> object | None:
    """Return the registry's cached content, ``cached_registry_proto``; None for a registry without a cache."""
    return getattr(registry, "cached_registry_proto", None)


def registry_engine(registry: BaseRegistry) -> Engine | None:
    """Return the engine of a SQL registry's database, ``SqlRegistry.write_engine``; None for any other registry."""
    return getattr(registry, "write_engine", None)


# Spark.


def feast_spark_session(spark_conf: dict[str, Any]) -> SparkSession:
    """Return the active Spark session, or start one: ``get_or_create_new_spark_session``."""
    from feast.infra.compute_engines.spark.utils import get_or_create_new_spark_session

    return get_or_create_new_spark_session(spark_conf)


def silence_spark_store_warnings() -> None:
    """Silence Feast's warnings that its Spark store and Spark sources are experimental.

    Feast gives such a warning on every use, and our tests pin the behavior. Importing Feast's module of the Spark store
    resets Python's warning filters, so it must be imported before the filter is set.
    """
    importlib.import_module("feast.infra.offline_stores.contrib.spark_offline_store.spark")
    message = "The spark (data source API|offline store) is an experimental feature"
    warnings.filterwarnings("ignore", message=message)
