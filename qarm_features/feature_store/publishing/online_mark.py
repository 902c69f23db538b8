"""The mark of a project in its online store, which tells two projects with one name apart that share no registry.

In: the configuration of a feature repo. Out: the fingerprint of the project that publishes under this name. Redis keeps it in
the hash ``qarm_project:<name>``, SQLite and PostgreSQL keep it in the table ``qarm_project``. Other stores keep no mark.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from feast.repo_config import RepoConfig

from qarm_features.feature_store.feast_internals import PARAMETER_MARKS, database_connection, redis_client
from qarm_features.feature_store.publishing.online_counts import has_table

_TABLE, _FIELD = "qarm_project", b"fingerprint"


def keeps_marks(config: RepoConfig) -> bool:
    """Tell if an online store can say whose rows it holds."""
    return config.online_store.type in ("redis", *PARAMETER_MARKS)


def marked_by(config: RepoConfig) -> str | None:
    """Return the fingerprint of the project that publishes under this name; None if the store holds no mark of one."""
    if config.online_store.type == "redis":
        with _redis(config) as client:
            found = client.hget(_key(config), _FIELD)
        return None if found is None else found.decode()
    with database_connection(config) as connection:
        if not has_table(config, connection, _TABLE):
            return None
        row = connection.execute(_select(config), (config.project,)).fetchone()
    return None if row is None else str(row[0])


def mark(config: RepoConfig, fingerprint: str) -> str:
    """Write the mark where none is, in one step, and return the fingerprint that the store holds then."""
    if config.online_store.type == "redis":
        with _redis(config) as client:
            client.hsetnx(_key(config), _FIELD, fingerprint)
    else:
        parameter = PARAMETER_MARKS[config.online_store.type]
        with database_connection(config) as connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {_TABLE} (project TEXT PRIMARY KEY, fingerprint TEXT NOT NULL)"
            )
            connection.execute(
                f"INSERT INTO {_TABLE} (project, fingerprint) VALUES ({parameter}, {parameter}) "
                "ON CONFLICT (project) DO NOTHING",
                (config.project, fingerprint),
            )
            connection.commit()
    return marked_by(config) or fingerprint


def _key(config: RepoConfig) -> bytes:
    return f"{_TABLE}:{config.project}".encode()


@contextlib.contextmanager
def _redis(config: RepoConfig) -> Iterator[Any]:
    client = redis_client(config.online_store)
    try:
        yield client
    finally:
        client.close()


def _select(config: RepoConfig) -> str:
    return f"SELECT fingerprint FROM {_TABLE} WHERE project = {PARAMETER_MARKS[config.online_store.type]}"
