"""Counts of the rows of a view in an online store, and the keys of its rows.

In: the configuration of a feature repo and a view. Out: for each feature the number of entities that have a value; serialized
entity keys, page by page. SQLite and PostgreSQL answer a query. The keys of Redis are read by SCAN, page by page and at a
limited rate. Rows of other stores can be neither counted nor listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from feast import FeatureView
from feast.repo_config import RepoConfig

from qarm_features.feature_store.feast_internals import PARAMETER_MARKS, database_connection, stored_table_name

_PAGE = 10_000


def count_online_rows(
    config: RepoConfig, view: FeatureView, constants: Mapping[str, bytes], keys_per_second: int
) -> dict[str, int] | None:
    """Count the entities that have a value of each feature. A null is not a value.

    Args:
        config: Configuration of the feature repo.
        view: View to count.
        constants: Serialized values of the features that must be equal in all rows. Only rows with that value are counted.
        keys_per_second: Largest number of Redis keys to read per second.

    Returns:
        A count per feature; None if the rows of the store cannot be counted.
    """
    if config.online_store.type == "redis" and config.entity_key_serialization_version == 3:
        from qarm_features.feature_store.publishing.redis_views import count_rows

        return count_rows(config, view, constants, keys_per_second)
    if config.online_store.type not in PARAMETER_MARKS:
        return None
    with database_connection(config) as connection:
        return _count(connection, _table(config, view), view, constants, PARAMETER_MARKS[config.online_store.type])


def online_keys(config: RepoConfig, view: FeatureView, keys_per_second: int) -> Iterator[list[bytes]]:
    """Yield the serialized entity keys of a view, page by page; nothing if the rows of the store cannot be listed.

    Args:
        config: Configuration of the feature repo.
        view: View to read.
        keys_per_second: Largest number of Redis keys to read per second.
    """
    if config.online_store.type == "redis" and config.entity_key_serialization_version == 3:
        from qarm_features.feature_store.publishing.redis_views import view_keys

        yield from view_keys(config, view, keys_per_second)
    elif config.online_store.type in PARAMETER_MARKS:
        with database_connection(config) as connection:
            # Each page is a query of its own. An open one would lock the SQLite file while the caller deletes rows.
            mark, after = PARAMETER_MARKS[config.online_store.type], b""
            page = (
                f"SELECT DISTINCT entity_key FROM {_table(config, view)} WHERE entity_key > {mark} "
                f"ORDER BY entity_key LIMIT {_PAGE}"
            )
            while keys := [bytes(key) for (key,) in connection.execute(page, (after,)).fetchall()]:
                yield keys
                after = keys[-1]


def holds_rows(config: RepoConfig, view: FeatureView, keys_per_second: int) -> bool:
    """Tell if the online store holds a row of a view, whether or not the registry knows the view.

    Args:
        config: Configuration of the feature repo.
        view: View to look for.
        keys_per_second: Largest number of Redis keys to read per second.
    """
    if config.online_store.type in PARAMETER_MARKS:
        with database_connection(config) as connection:
            return has_table(config, connection, stored_table_name(config, view)) and bool(
                connection.execute(f"SELECT 1 FROM {_table(config, view)} LIMIT 1").fetchone()
            )
    return any(online_keys(config, view, keys_per_second))


def has_table(config: RepoConfig, connection: Any, name: str) -> bool:
    """Tell if the database of an online store has a table where Feast makes its own."""
    if config.online_store.type == "postgres":
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = %s"
    else:
        query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(connection.execute(query, (name,)).fetchone()[0])


def _table(config: RepoConfig, view: FeatureView) -> str:
    return '"' + stored_table_name(config, view).replace('"', '""') + '"'


def _count(connection: Any, table: str, view: FeatureView, constants: Mapping[str, bytes], mark: str) -> dict[str, int]:
    filled = f"SELECT feature_name, COUNT(*) FROM {table} WHERE length(value) > 0 GROUP BY feature_name"
    counts = dict(connection.execute(filled).fetchall())
    same = f"SELECT COUNT(*) FROM {table} WHERE feature_name = {mark} AND value = {mark}"
    for name, value in constants.items():
        counts[name] = connection.execute(same, (name, value)).fetchone()[0]
    return {feature.name: counts.get(feature.name, 0) for feature in view.features}
