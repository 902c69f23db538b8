"""Operations on all rows of one view in Redis: count them, or delete them and keep other views of the same entities.

In: the configuration of a feature repo and a view. Out: numbers of entities. Feast keeps an entity's rows of all views in one
hash. SCAN reads the keys on every primary server of a cluster, page by page and at a limited rate.
"""

from __future__ import annotations

import logging
import re
import struct
import time
from collections.abc import Iterator, Mapping

from feast import FeatureView
from feast.repo_config import RepoConfig
from redis import Redis, RedisCluster

from qarm_features.feature_store.feast_internals import (
    entity_key_prefix,
    redis_client,
    redis_field,
    stored_view_name,
)

_PAGE = 1_000
_SAMPLED_PER_SECOND = 1_000_000
_PROGRESS_SECONDS = 10.0
_GLOB = re.compile(rb"([*?\[\]\\])")
_HEAD = struct.Struct("<II")  # type and size of the value after a key's prefix
_log = logging.getLogger(__name__)


def count_rows(
    config: RepoConfig, view: FeatureView, constants: Mapping[str, bytes], keys_per_second: int
) -> dict[str, int]:
    """Count the entities that have each feature; see ``online_counts.count_online_rows``.

    SCAN may return a key twice while Redis resizes its table. It never leaves out a key that exists all the time.
    """
    fields = _fields(config, view)
    counts = dict.fromkeys(fields, 0)
    client = redis_client(config.online_store)
    try:
        for keys in _pages(client, config, view, keys_per_second):
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    for name, field in fields.items():
                        _ = pipe.hget(key, field) if name in constants else pipe.hstrlen(key, field)
                answers = pipe.execute()
            for position, name in enumerate(fields):
                values = answers[position :: len(fields)]
                counts[name] += values.count(constants[name]) if name in constants else sum(map(bool, values))
    finally:
        client.close()
    return counts


def view_keys(config: RepoConfig, view: FeatureView, keys_per_second: int) -> Iterator[list[bytes]]:
    """Yield the serialized entity keys that have a field of a view, page by page. A key may occur twice.

    Args:
        config: Configuration of the feature repo.
        view: View to read.
        keys_per_second: Largest number of Redis keys to read per second.
    """
    fields = _own_fields(config, view)
    client = redis_client(config.online_store)
    try:
        for keys in _pages(client, config, view, keys_per_second):
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    for field in fields:
                        pipe.hexists(key, field)
                answers = pipe.execute()
            has_field = [any(answers[start : start + len(fields)]) for start in range(0, len(answers), len(fields))]
            project = config.project.encode()
            yield [key.removesuffix(project) for key, found in zip(keys, has_field, strict=True) if found]
    finally:
        client.close()


def seconds_left(config: RepoConfig, view: FeatureView) -> list[int]:
    """Return the seconds until keys of a view expire, -1 for never, of the first keys that SCAN finds.

    An empty list means that Redis holds no row of the view.
    """
    pages = view_keys(config, view, keys_per_second=_SAMPLED_PER_SECOND)
    keys = next((page for page in pages if page), [])
    client, project = redis_client(config.online_store), config.project.encode()
    try:
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.ttl(key + project)
            return list(pipe.execute())
    finally:
        client.close()


def keep_for_ever(config: RepoConfig, view: FeatureView, keys_per_second: int) -> int:
    """Take the time to live off the keys of a view, and return the number of keys that had one.

    Args:
        config: Configuration of the feature repo.
        view: View whose keys shall stay.
        keys_per_second: Largest number of Redis keys to read per second.
    """
    client, project, kept = redis_client(config.online_store), config.project.encode(), 0
    try:
        for keys in view_keys(config, view, keys_per_second):
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.persist(key + project)
                kept += sum(map(bool, pipe.execute()))
    finally:
        client.close()
    return kept


def delete_rows(config: RepoConfig, view: FeatureView, keys_per_second: int) -> int:
    """Delete the fields of a view from every entity's hash. Redis removes a hash that has no fields left.

    A second call has no further effect.

    Args:
        config: Configuration of the feature repo.
        view: View to delete.
        keys_per_second: Largest number of Redis keys to read per second.

    Returns:
        Number of entities that had such fields.
    """
    fields, deleted = _own_fields(config, view), 0
    client = redis_client(config.online_store)
    try:
        for keys in _pages(client, config, view, keys_per_second):
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hdel(key, *fields)
                deleted += sum(map(bool, pipe.execute()))
    finally:
        client.close()
    return deleted


def _pages(
    client: Redis | RedisCluster, config: RepoConfig, view: FeatureView, keys_per_second: int
) -> Iterator[list[bytes]]:
    """Yield the keys of the view's entities, page by page. Every key that SCAN reads counts against the rate."""
    prefix = entity_key_prefix(view.join_keys)
    project = config.project.encode()
    match = _GLOB.sub(rb"\\\1", prefix) + b"*" + _GLOB.sub(rb"\\\1", project)
    started, keys_read, logged = time.monotonic(), 0, time.monotonic()
    for server in _servers(client):
        cursor = None
        while cursor != 0:
            cursor, keys = server.scan(cursor or 0, match=match, count=_PAGE)
            project_keys = [key for key in keys if isinstance(key, bytes) and _is_in_project(key, prefix, project)]
            if project_keys:
                yield project_keys
            keys_read += _PAGE
            now = time.monotonic()
            time.sleep(max(0.0, started + keys_read / keys_per_second - now))
            if now - logged > _PROGRESS_SECONDS:
                logged = now
                _log.info("%s: about %s keys of Redis were read", view.name, f"{keys_read:,}")


def _servers(client: Redis | RedisCluster) -> list[Redis]:
    """Return a client of each server that holds keys."""
    if isinstance(client, RedisCluster):
        return [client.get_redis_connection(node) for node in client.get_primaries()]
    return [client]


def _is_in_project(key: bytes, prefix: bytes, project: bytes) -> bool:
    """Tell if a key belongs to an entity of this project, not of a project whose name has the same ending."""
    if len(key) < len(prefix) + _HEAD.size:
        return False
    _, size = _HEAD.unpack_from(key, len(prefix))
    return key.startswith(prefix) and key[len(prefix) + _HEAD.size + size :] == project


def _fields(config: RepoConfig, view: FeatureView) -> dict[str, bytes]:
    """Return the field of each feature in an entity's hash."""
    name = stored_view_name(config, view)
    return {feature.name: redis_field(name, feature.name) for feature in view.features}


def _own_fields(config: RepoConfig, view: FeatureView) -> list[bytes]:
    """Return all fields of a view in an entity's hash, with the one of the event time."""
    return [*_fields(config, view).values(), b"_ts:" + stored_view_name(config, view).encode()]
