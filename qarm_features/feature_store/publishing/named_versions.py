"""The Delta versions that live releases name: they are kept readable, and what would remove them is refused.

In: settings. Out: each version with the view that names it; warnings of those that cannot be read, or soon cannot be; a
removal of old files that spares them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pyspark.sql import SparkSession

from qarm_features.feature_store.publishing.ownership import TAG, Ownership
from qarm_features.feature_store.publishing.release_manifest import ReleaseError, manifests
from qarm_features.feature_store.registry_errors import naming_the_registry
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.feature_store.views.vector_views import release_views
from qarm_features.settings.load import Settings
from qarm_features.storage.retention import SHORTEST_HOURS, hours_to_keep, raise_retention, vacuum, version_state
from qarm_features.storage.tables import NAMED_BY_RELEASES, TABLES, Table
from qarm_features.storage.warehouse import Warehouse

_LIVE = ("loading", "verified")
_SOON = timedelta(days=30)
_TABLE_OF = {"item_semantic_id": "item_semantic_ids", "item_embedding": "item_embeddings"}
_log = logging.getLogger(__name__)


class NamedVersion(NamedTuple):
    """A Delta version that a view reads.

    Attributes:
        table: Table of the rows.
        version: Its Delta version.
        view: Name of the view.
    """

    table: Table
    version: int
    view: str

    def __str__(self) -> str:
        """Return the version and its view for people."""
        return f"version {self.version} of {self.table.name}, which {self.view} reads"


def named_versions(settings: Settings) -> list[NamedVersion]:
    """Return the versions that live releases name, by our records and, for those of other machines, by the registry."""
    releases = [manifest.release for manifest in manifests(settings) if manifest.state in _LIVE]
    views = {view.name: view for release in releases for view in release_views(settings, release)}
    store = open_feature_store(settings.feature_repo_path)
    own = Ownership.found(settings, store).fingerprint
    with naming_the_registry(store.config):
        registered = store.registry.list_feature_views(store.project, allow_cache=False)
    views |= {f"{view.name} in the registry": view for view in registered if view.tags.get(TAG, own) == own}
    tables = {table.name: table for table in NAMED_BY_RELEASES}
    found = {}
    for view in views.values():
        kind = view.name.split("__")[0]
        table = tables.get(_TABLE_OF.get(kind, kind))
        if table is not None and view.tags.get("delta_version", "").isdigit():
            version = NamedVersion(table, int(view.tags["delta_version"]), view.name)
            found[version] = version
    return sorted(found.values(), key=lambda one: (one.table.name, one.version, one.view))


def keep_readable(spark: SparkSession, settings: Settings) -> None:
    """Raise the retention of existing tables that releases name to ``publishing.release_retention_days``."""
    warehouse, days = _warehouse(settings), settings.publishing.release_retention_days
    for table in NAMED_BY_RELEASES:
        if warehouse.exists(table) and raise_retention(spark, warehouse.path(table), days):
            _log.info("%s keeps its earlier versions for %d days now", table.name, days)


def faults(settings: Settings, *, now: datetime | None = None) -> Iterator[str]:
    """Yield a sentence for each named version that cannot be read, or that Delta may drop within 30 days."""
    now = now or datetime.now(UTC)
    for one in named_versions(settings):
        state = version_state(_warehouse(settings).path(one.table), one.version)
        if state.fault is not None:
            yield f"{_capital(one)}, cannot be read any more: {state.fault}"
        elif state.until is not None and state.until - now < _SOON:
            days = max(0, (state.until - now).days)
            yield f"{_capital(one)}, may cease to be readable in {days} days by {state.cause}"


def remove_old_files(spark: SparkSession, settings: Settings, *, dry_run: bool) -> Iterator[tuple[str, int, int]]:
    """Remove the files of each table that neither a live release nor the last week needs.

    Args:
        spark: Session with Delta.
        settings: Settings of the project.
        dry_run: Count the files and remove none.

    Yields:
        Name of a table, number of files, and hours for which removed files are retained.

    Raises:
        ReleaseError: A version that a release names cannot be read, so that nothing tells which files it needs. Nothing was
            removed.
    """
    warehouse, now, named = _warehouse(settings), datetime.now(UTC), named_versions(settings)
    for one in named:
        fault = version_state(warehouse.path(one.table), one.version).fault
        if fault is not None:
            raise ReleaseError(
                f"{_capital(one)}, cannot be read any more: {fault}. Nothing was removed. Publish the release again or "
                "retire it first: qarm release publish, qarm release retire"
            )
    for table in TABLES:
        if warehouse.exists(table):
            path = warehouse.path(table)
            hours = [hours_to_keep(path, one.version, now=now) for one in named if one.table == table]
            retained = max(hours, default=SHORTEST_HOURS)
            yield table.name, vacuum(spark, path, retained, dry_run=dry_run), retained


def _warehouse(settings: Settings) -> Warehouse:
    return Warehouse(settings.warehouse_path, **settings.id_types)


def _capital(one: NamedVersion) -> str:
    text = str(one)
    return text[0].upper() + text[1:]
