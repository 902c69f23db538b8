"""All rows of one view in Redis: counted, or deleted without touching the other views of the same entities.

In: the configuration of a feature repo and a view. Feast keeps an entity's rows of all views in one hash; SCAN walks the
keys, page by page and at a limited rate, on every primary of a cluster.
"""

from __future__ import annotations

import logging
import re
import struct
import time
from collections.abc import Iterator, Mapping

from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.repo_config import RepoConfig
from redis import RedisCluster

_PAGE = 1_000
_SPOKEN_SECONDS = 10.0
_GLOB = re.compile(rb"([*?\[\]\\])")
_HEAD = struct.Struct("<II")  # type and size of the value behind a key's prefix
_log = logging.getLogger(__name__)


def count_rows(
    config: RepoConfig, view: FeatureView, constants: Mapping[str, bytes], keys_per_second: int
) -> dict[str, int]:
    """Counts the entities that have each feature; see `online_counts.count_online_rows`.

    SCAN may show a key twice while Redis resizes its table; it never leaves one out that is there all the time.
    """
    fields = _fields(config, view)
    counts = dict.fromkeys(fields, 0)
    client = RedisOnlineStore()._get_client(config.online_store)
    try:
        for keys in _pages(client, config, view, keys_per_second):
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    for name, field in fields.items():
                        _ = pipe.hget(key, field) if name in constants else pipe.hstrlen(key, field)
                answers = pipe.execute()
            for position, name in enumerate(fields):
                found = answers[position :: len(fields)]
                counts[name] += found.count(constants[name]) if name in constants else sum(map(bool, found))
    finally:
        client.close()
    return counts


def delete_rows(config: RepoConfig, view: FeatureView, keys_per_second: int) -> int:
    """Deletes a view's fields from every entity's hash. One that is left without fields is gone; doing it again is no harm.

    Returns:
        How many entities had such fields.
    """
    fields, deleted = [*_fields(config, view).values(), b"_ts:" + _name(config, view).encode()], 0
    client = RedisOnlineStore()._get_client(config.online_store)
    try:
        for keys in _pages(client, config, view, keys_per_second):
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hdel(key, *fields)
                deleted += sum(map(bool, pipe.execute()))
    finally:
        client.close()
    return deleted


def _pages(client, config: RepoConfig, view: FeatureView, keys_per_second: int) -> Iterator[list[bytes]]:
    """Yields the keys of the view's entities, page by page; counts every key that SCAN looks at against the rate."""
    prefix = serialize_entity_key_prefix(view.join_keys, entity_key_serialization_version=3)
    project = config.project.encode()
    match = _GLOB.sub(rb"\\\1", prefix) + b"*" + _GLOB.sub(rb"\\\1", project)
    started, looked_at, spoken = time.monotonic(), 0, time.monotonic()
    for server in _servers(client):
        cursor = None
        while cursor != 0:
            cursor, keys = server.scan(cursor or 0, match=match, count=_PAGE)
            own = [key for key in keys if _is_of(key, prefix, project)]
            if own:
                yield own
            looked_at += _PAGE
            now = time.monotonic()
            time.sleep(max(0.0, started + looked_at / keys_per_second - now))
            if now - spoken > _SPOKEN_SECONDS:
                spoken = now
                _log.info("%s: about %s keys of Redis looked at", view.name, f"{looked_at:,}")


def _servers(client) -> list:
    if isinstance(client, RedisCluster):
        return [client.get_redis_connection(node) for node in client.get_primaries()]
    return [client]


def _is_of(key: bytes, prefix: bytes, project: bytes) -> bool:
    """Tells whether a key is an entity's of this project, and not of one whose name only ends alike."""
    if len(key) < len(prefix) + _HEAD.size:
        return False
    _, size = _HEAD.unpack_from(key, len(prefix))
    return key.startswith(prefix) and key[len(prefix) + _HEAD.size + size :] == project


def _name(config: RepoConfig, view: FeatureView) -> str:
    return compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)


def _fields(config: RepoConfig, view: FeatureView) -> dict[str, bytes]:
    name = _name(config, view)
    return {feature.name: _mmh3(f"{name}:{feature.name}") for feature in view.features}
