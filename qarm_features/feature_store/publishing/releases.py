"""Publication of a codebook version: its views are loaded, read back and only then served. Rollback to earlier releases.

In: ``item_semantic_ids`` of one codebook version and the tables of the click log. Out: loaded and verified views, and the
feature service ``item_semantic_id`` that names them. A publisher may be stopped at any moment: readers keep the last whole
release, and a second run finishes the work. Of two publishers at the same time, one gets an error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from feast import FeatureStore
from feast.errors import FeastObjectNotFoundException
from pyspark.sql import SparkSession

from qarm_features.feature_store.publishing.expiry import take_back_expiry
from qarm_features.feature_store.publishing.gone_rows import GoneRows
from qarm_features.feature_store.publishing.loading import load_views
from qarm_features.feature_store.publishing.named_versions import keep_readable
from qarm_features.feature_store.publishing.one_publisher import one_publisher
from qarm_features.feature_store.publishing.ownership import Ownership, Published
from qarm_features.feature_store.publishing.planning import planned_loads
from qarm_features.feature_store.publishing.publication import Publication
from qarm_features.feature_store.publishing.release_manifest import (
    ReleaseError,
    ReleaseManifest,
    find_manifest,
    promoted_before,
    promoted_release,
    published_releases,
    record_promotion,
    require_manifest,
    require_promoted_release,
    write_manifest,
)
from qarm_features.feature_store.publishing.repo_definitions import definitions
from qarm_features.feature_store.publishing.store_settings import require_overwriting
from qarm_features.feature_store.publishing.verification import (
    verify_other_views,
    verify_published_keys,
    verify_release_views,
)
from qarm_features.feature_store.registry_errors import naming_the_registry
from qarm_features.feature_store.store_errors import naming_the_store
from qarm_features.feature_store.views.feature_views import (
    ITEM_SERVICE,
    Release,
    entities,
    item_service,
    log_views,
    open_feature_store,
    release_view,
)
from qarm_features.feature_store.views.vector_views import (
    published_vectors,
    record_vectors,
    user_embedding_views,
    vector_services,
)
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import ITEMS
from qarm_features.storage.warehouse import Warehouse

__all__ = [
    "ReleaseError",
    "definitions",
    "items_without_codes",
    "preview_release",
    "promote_release",
    "promoted_release",
    "publish_release",
    "published_releases",
    "require_promoted_release",
    "roll_back",
    "served_version",
    "verify_release",
]

_log = logging.getLogger(__name__)


def publish_release(spark: SparkSession, settings: Settings, release: Release, *, promote: bool = True) -> Publication:
    """Publish a release: apply its views, load the online store, delete who left, verify, then point readers at it.

    One moment is taken at the start. Rows up to it are loaded and verified, and rows of the future are held back.

    Args:
        spark: Session that reads Delta and loads the online store from its executors.
        settings: Settings of the project.
        release: Release to publish.
        promote: False leaves readers at the release they have. ``promote_release`` can point them at this one later.

    Returns:
        What was written, deleted and held back.

    Raises:
        ReleaseError: The table holds other rows than ``release`` says, a row that was read back differs, or the online
            store is set to keep older rows. Readers keep the release they had.
        OnlineStoreError: The online store refused a command or could not be reached.
        LeaseError: Another publisher holds the lease.

    Example:
        The job ``publish-features`` does this::

            publish_release(spark, settings, Release(codebook_version=1, encoder_version=0, num_levels=3,
                                                     codebook_size=256, delta_version=7, rows=100_000))
    """
    store = open_feature_store(settings.feature_repo_path)
    require_overwriting(store.config)
    with naming_the_store(store.config), one_publisher(store, settings, spark) as check_lease:
        project = Ownership.made(settings, store)
        project.require(_published_objects(settings, release))
        views = [release_view(settings, release), *log_views(settings)[:1]]
        project.claim_rows(views, settings.publishing.keys_per_second)
        keep_readable(spark, settings)
        known = find_manifest(settings, release.codebook_version)
        if known is None or known.state != "verified":
            promotions = known.promotions if known else ()
            write_manifest(settings, ReleaseManifest(release, state="loading", promotions=promotions))
        with planned_loads(spark, settings, store, release) as (vectors, loads, published):
            gone = GoneRows(spark, settings, store)
            project.require([load.view for load in loads])
            load_views(project, [*entities(settings)], loads, gone, published)
            verify_release_views(spark, settings, store, release, vectors, gone, published)
            verify_other_views(settings, store, loads, gone, published)
            take_back_expiry(store, [load.view for load in loads], settings.publishing.keys_per_second)
        record_vectors(settings, vectors)
        if promote:
            check_lease()
            _flip(project, settings, release, "promote", check_lease)
    return published


def preview_release(spark: SparkSession, settings: Settings, release: Release) -> Publication:
    """Return what ``publish_release`` would write, delete and hold back, without a change.

    Raises:
        ReleaseError: ``publish_release`` would refuse the rows of the tables, or views belong to another project.
    """
    store = open_feature_store(settings.feature_repo_path)
    project = Ownership.found(settings, store)
    loaded = {view.name for view in store.registry.list_feature_views(store.project, allow_cache=False)}
    require_overwriting(store.config)
    with naming_the_store(store.config), naming_the_registry(store.config):
        project.require(_published_objects(settings, release))
        with planned_loads(spark, settings, store, release) as (_, loads, published):
            project.require([load.view for load in loads])
            gone = GoneRows(spark, settings, store)
            for load in loads:
                keys = gone.count(load, is_loaded=load.view.name in loaded)
                published.add_gone(load.view.name, keys, deleted=gone.can_be_deleted(load.view))
    return published


def promote_release(settings: Settings, codebook_version: int) -> None:
    """Point readers at a release that was verified before, in one transaction of the registry. It loads nothing.

    Raises:
        ReleaseError: The release was not published, was not verified, is retired, or belongs to another project.
        LeaseError: Another publisher holds the lease.
    """
    store = open_feature_store(settings.feature_repo_path)
    with naming_the_store(store.config), one_publisher(store, settings) as check_lease:
        project = Ownership.made(settings, store)
        release = _verified_release(settings, project, codebook_version)
        check_lease()
        _flip(project, settings, release, "promote", check_lease)


def roll_back(settings: Settings) -> Release:
    """Point readers at the release before the one they have. It loads nothing, and two calls lead two releases back.

    Returns:
        The release that is served now.

    Raises:
        ReleaseError: There is no release before, or it is retired or belongs to another project.
        LeaseError: Another publisher holds the lease.
    """
    store = open_feature_store(settings.feature_repo_path)
    with naming_the_store(store.config), one_publisher(store, settings) as check_lease:
        project = Ownership.made(settings, store)
        versions, served = promoted_before(settings), served_version(store)
        if served is not None and versions[-1:] != [served]:  # the process was stopped before it recorded the flip
            versions.append(served)
        if len(versions) < 2:
            raise ReleaseError(
                f"Releases promoted so far are {versions}, must be at least two to roll back. Run: qarm release list"
            )
        release = _verified_release(settings, project, versions[-2])
        check_lease()
        _flip(project, settings, release, "rollback", check_lease)
        return release


def items_without_codes(settings: Settings, release: Release) -> int:
    """Return how many items of today's catalog a release lacks at least, without Spark.

    It is the number of items in the catalog less the number of items in the release, so it is too small where the release
    holds items that left the catalog.
    """
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    return max(0, warehouse.arrow(ITEMS).count_rows() - release.rows) if warehouse.exists(ITEMS) else 0


def verify_release(spark: SparkSession, settings: Settings, codebook_version: int) -> ReleaseManifest:
    """Compare the online store with Delta: the number of rows, one codebook version, no nulls, and a sample of rows.

    Views of the click log and of users must hold the keys that were published last, and no others.

    Returns:
        The manifest with this verification.

    Raises:
        ReleaseError: The stores differ, Delta no longer holds the rows that were published, or the views belong to another
            project.
        LeaseError: A publisher holds the lease.
    """
    store = open_feature_store(settings.feature_repo_path)
    with naming_the_store(store.config), one_publisher(store, settings):
        release = _verified_release(settings, Ownership.found(settings, store), codebook_version)
        vectors = published_vectors(settings, release.encoder_version)
        manifest = verify_release_views(spark, settings, store, release, vectors)
        verify_published_keys(spark, settings, store, [*log_views(settings), *user_embedding_views(settings)])
        return manifest


def served_version(store: FeatureStore) -> int | None:
    """Return the codebook version that the service names now in the registry."""
    try:
        service = store.registry.get_feature_service(ITEM_SERVICE, store.project)
    except FeastObjectNotFoundException:
        return None
    return int(service.tags["codebook_version"])


def _published_objects(settings: Settings, release: Release) -> list[Published]:
    """Return what a publication of a release and its promotion change in the registry at least."""
    view = release_view(settings, release)
    return [*entities(settings), view, *log_views(settings), *user_embedding_views(settings), item_service(view)]


def _flip(
    project: Ownership,
    settings: Settings,
    release: Release,
    what: Literal["promote", "rollback"],
    check_lease: Callable[[], None],
) -> None:
    vectors = published_vectors(settings, release.encoder_version)
    services = [item_service(release_view(settings, release)), *vector_services(settings, vectors)]
    project.require(services)
    views = project.untagged([release.view_name])  # an earlier version published it
    project.store.apply(project.tagged([*views, *services]))
    check_lease()  # a publisher that came later has recorded its own promotion
    record_promotion(settings, release.codebook_version, what)
    _log.info("%s now serves %s", ITEM_SERVICE, release.view_name)


def _verified_release(settings: Settings, project: Ownership, codebook_version: int) -> Release:
    manifest = require_manifest(settings, codebook_version)
    release = manifest.release
    again = f"Run: qarm release publish --codebook-version {codebook_version}"
    if manifest.state != "verified":
        raise ReleaseError(
            f"The release of codebook version {codebook_version} is {manifest.state}, must be verified. {again}"
        )
    view = release_view(settings, release)
    project.require([view, item_service(view)])
    try:
        project.store.registry.get_feature_view(release.view_name, project.store.project)
    except FeastObjectNotFoundException as error:
        raise ReleaseError(f"The registry has no view {release.view_name}. {again}") from error
    return release
