"""How many rows of a view an online store holds, counted where they are: nothing is loaded but numbers and keys' pages.

In: the configuration of a feature repo and a view. Out: of each feature how many entities have a value. SQLite and
PostgreSQL count by themselves; Redis is walked by SCAN, at a limited rate. Other stores have no way to be counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from feast import FeatureView
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.repo_config import RepoConfig

_MARKS = {"sqlite": "?", "postgres": "%s"}  # how their drivers mark parameters


def count_online_rows(
    config: RepoConfig, view: FeatureView, constants: Mapping[str, bytes], keys_per_second: int
) -> dict[str, int] | None:
    """Counts the entities that have a value of each feature; null is none.

    Args:
        config: The feature repo.
        view: The view.
        constants: Serialized values of features that are the same in all rows: only rows with that value are counted.
        keys_per_second: Keys of Redis looked at in a second, at most.

    Returns:
        A count per feature, or None where the store cannot be counted.
    """
    if config.online_store.type == "redis" and config.entity_key_serialization_version == 3:
        from qarm_features.feature_store.publishing.redis_views import count_rows

        return count_rows(config, view, constants, keys_per_second)
    if config.online_store.type not in _MARKS:
        return None
    with _connection(config) as connection:
        return _count(connection, _table(config, view), view, constants, _MARKS[config.online_store.type])


@contextlib.contextmanager
def _connection(config: RepoConfig) -> Iterator[Any]:
    if config.online_store.type == "postgres":
        from feast.infra.utils.postgres.connection_utils import _get_conn

        with _get_conn(config.online_store) as connection:
            yield connection
    else:
        with contextlib.closing(SqliteOnlineStore()._get_conn(config)) as connection:
            yield connection


def _table(config: RepoConfig, view: FeatureView) -> str:
    name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return '"' + name.replace('"', '""') + '"'


def _count(connection, table: str, view: FeatureView, constants: Mapping[str, bytes], mark: str) -> dict[str, int]:
    filled = f"SELECT feature_name, COUNT(*) FROM {table} WHERE length(value) > 0 GROUP BY feature_name"
    found = dict(connection.execute(filled).fetchall())
    same = f"SELECT COUNT(*) FROM {table} WHERE feature_name = {mark} AND value = {mark}"
    for name, value in constants.items():
        found[name] = connection.execute(same, (name, value)).fetchone()[0]
    return {feature.name: found.get(feature.name, 0) for feature in view.features}
