"""Retirement of a release: its views are deleted from the registry, then its rows from the online store.

In: settings and a codebook version. Out: the names of the deleted views. A release that is in use is refused. The process may
be stopped at any moment and run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time

from feast import FeatureStore, FeatureView
from feast.errors import FeastObjectNotFoundException

from qarm_features.feature_store.feast_internals import online_store
from qarm_features.feature_store.publishing.one_publisher import one_publisher
from qarm_features.feature_store.publishing.online_counts import count_online_rows
from qarm_features.feature_store.publishing.ownership import Ownership
from qarm_features.feature_store.publishing.release_manifest import (
    ReleaseAction,
    ReleaseError,
    manifests,
    require_manifest,
    write_manifest,
)
from qarm_features.feature_store.registry_errors import naming_the_registry
from qarm_features.feature_store.store_errors import naming_the_store
from qarm_features.feature_store.views.feature_views import Release, open_feature_store
from qarm_features.feature_store.views.vector_views import forget_vectors, release_views
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import Artifacts

_log = logging.getLogger(__name__)


def services_of(store: FeatureStore) -> dict[str, list[str]]:
    """Return, for the name of each view, the names of the feature services that name it now in the registry."""
    services: dict[str, list[str]] = {}
    for service in store.registry.list_feature_services(store.project, allow_cache=False):
        for projection in service.feature_view_projections:
            services.setdefault(projection.name, []).append(service.name)
    return services


def rows_to_retire(settings: Settings, codebook_version: int, *, force: bool = False) -> dict[str, int]:
    """Return the number of rows of each view that ``retire_release`` would delete, without a change.

    Raises:
        ReleaseError: ``retire_release`` would refuse the release.
    """
    store = open_feature_store(settings.feature_repo_path)
    release = require_manifest(settings, codebook_version).release
    with naming_the_store(store.config), naming_the_registry(store.config):
        Ownership.found(settings, store).require(release_views(settings, release))
        _refuse_what_is_used(settings, store, release, force=force)
        return {view.name: _count(settings, store, view, release) for view in _own_views(settings, store, release)}


def retire_release(settings: Settings, codebook_version: int, *, force: bool = False) -> list[str]:
    """Delete a release that no service names: its views from the registry, then its rows from the online store.

    Between the two steps it waits for as long as readers may keep a snapshot of the registry.

    Args:
        settings: Settings of the project.
        codebook_version: Codebook version of the release.
        force: True to retire the release even if ranking models, or a service with the name of its view, pin it.

    Returns:
        Names of the deleted views.

    Raises:
        ReleaseError: A service names the release, ranking models pin it and ``force`` is False, or it belongs to another
            project.
        LeaseError: A publisher holds the lease.
    """
    store = open_feature_store(settings.feature_repo_path)
    with naming_the_store(store.config), one_publisher(store, settings) as check_lease:
        manifest = require_manifest(settings, codebook_version)
        release = manifest.release
        Ownership.found(settings, store).require(release_views(settings, release))
        pins = _refuse_what_is_used(settings, store, release, force=force)
        write_manifest(settings, dataclasses.replace(manifest, state="retiring"))
        views = _own_views(settings, store, release)
        for service in pins:
            store.delete_feature_service(service)
        for view in views:
            with contextlib.suppress(FeastObjectNotFoundException):
                store.delete_feature_view(view.name)
            with contextlib.suppress(FeastObjectNotFoundException):
                store.registry.delete_data_source(view.batch_source.name, store.project)
        seconds = store.config.registry.cache_ttl_seconds
        _log.info(
            "%s was deleted from the registry. Waiting %d s until no reader holds an older snapshot.",
            release.view_name,
            seconds,
        )
        time.sleep(seconds)
        check_lease()
        for view in views:
            _delete_rows(settings, store, view)
        if len(views) == len(release_views(settings, release)):  # no other release shares the encoder
            forget_vectors(settings, release.encoder_version)
        retired = ReleaseAction.now(settings, "retire")
        write_manifest(settings, dataclasses.replace(manifest, state="retired", views={}, retired=retired))
        return [view.name for view in views]


def _refuse_what_is_used(settings: Settings, store: FeatureStore, release: Release, *, force: bool) -> list[str]:
    """Refuse a release that is in use, and return the services that pin it, which are deleted with it."""
    named = services_of(store).get(release.view_name, [])
    pins = [name for name in named if name == release.view_name]
    others = sorted(set(named) - set(pins))
    if others:
        raise ReleaseError(
            f"{release.view_name} is in use by the feature service {', '.join(others)}. Point the service at another "
            "release first. Run: qarm release promote or qarm release rollback"
        )
    models = Artifacts(settings.artifacts_path, "ranking_models")
    version = release.codebook_version
    trained = [f"v{n}" for n in models.versions() if models.get(n).manifest.get("codebook_version") == version]
    if (pins or trained) and not force:
        users = [f"ranking model {model}" for model in trained] + [f"the feature service {name}" for name in pins]
        raise ReleaseError(
            f"{release.view_name} is pinned by {', '.join(users)}, which reads it by name. If none of them is in use any "
            f"more, run: qarm release retire {version} --force"
        )
    return pins


def _own_views(settings: Settings, store: FeatureStore, release: Release) -> list[FeatureView]:
    """Return the views of a release that no other release shares and no service names."""
    others = [manifest.release for manifest in manifests(settings) if manifest.state in ("loading", "verified")]
    shared = {view.name for other in others if other != release for view in release_views(settings, other)}
    in_use = shared | (services_of(store).keys() - {release.view_name})
    return [view for view in release_views(settings, release) if view.name not in in_use]


def _count(settings: Settings, store: FeatureStore, view: FeatureView, release: Release) -> int:
    counts = count_online_rows(store.config, view, {}, settings.publishing.keys_per_second)
    return release.rows if counts is None else max(counts.values())


def _delete_rows(settings: Settings, store: FeatureStore, view: FeatureView) -> None:
    kind = store.config.online_store.type
    if kind == "redis":
        from qarm_features.feature_store.publishing.redis_views import delete_rows

        rows = delete_rows(store.config, view, settings.publishing.keys_per_second)
        _log.info("%s: %s rows deleted from Redis", view.name, f"{rows:,}")
        return
    online_store(store.config).update(
        config=store.config,
        tables_to_delete=[view],
        tables_to_keep=[],
        entities_to_delete=[],
        entities_to_keep=[],
        partial=False,
    )
    _log.info("%s: deleted from the %s store", view.name, kind)
