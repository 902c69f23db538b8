"""A codebook version becomes readable online: views, load, read-back, and only then the flip; and the way back.

In: ``item_semantic_ids`` of one codebook version and the tables of the log. Out: loaded, verified views and the service
``item_semantic_id`` that points at them. Whenever the publisher is stopped, readers see the last whole release; running it
again finishes the work. Two publishers at once: one wins, the other is told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from feast import Entity, FeatureService, FeatureStore, FeatureView
from feast.errors import FeastObjectNotFoundException
from pyspark.sql import DataFrame, SparkSession

from qarm_features.feature_store.publishing.one_publisher import one_publisher
from qarm_features.feature_store.publishing.release_checks import (
    check_codes,
    check_count,
    check_served,
    newest_rows,
    view_rows,
)
from qarm_features.feature_store.publishing.release_manifest import (
    Deed,
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
from qarm_features.feature_store.publishing.vector_checks import check_user_embeddings, vectors_to_publish
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
    PublishedVectors,
    published_vectors,
    record_vectors,
    release_views,
    user_embedding_views,
    vector_services,
    vector_views,
)
from qarm_features.settings.load import Settings, load_settings
from qarm_features.storage.tables import TABLES
from qarm_features.storage.warehouse import Warehouse

__all__ = [
    "ReleaseError",
    "definitions",
    "promote_release",
    "promoted_release",
    "publish_release",
    "published_releases",
    "require_promoted_release",
    "roll_back",
    "verify_release",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger(__name__)


def publish_release(spark: SparkSession, settings: Settings, release: Release, *, promote: bool = True) -> None:
    """Publishes a release: views, load of the online store, verification, then the flip.

    Args:
        spark: The session that reads Delta and loads the online store from its executors.
        settings: The project's settings.
        release: What to publish.
        promote: False leaves readers where they are; `promote_release` flips later.

    Raises:
        ReleaseError: The table holds other rows than the release says, or a row read back differs. Readers keep the
            release they had.
        LeaseError: Another publisher is at work.
    """
    store = open_feature_store(settings.feature_repo_path)
    with one_publisher(store, settings) as check_lease:
        known = find_manifest(settings, release.codebook_version)
        if known is None or known.state != "verified":
            promotions = known.promotions if known else ()
            write_manifest(settings, ReleaseManifest(release, state="loading", promotions=promotions))
        check_codes(_source_rows(spark, release_view(settings, release)), release)
        vectors, of_users = vectors_to_publish(spark, settings, store, release), user_embedding_views(settings)
        for user_view in of_users:
            check_user_embeddings(spark, user_view)
        of_the_log = log_views(settings)
        views = [release_view(settings, release), *vector_views(settings, vectors), *of_the_log, *of_users]
        store.apply([*entities(settings), *views])
        _materialize(store, [view.name for view in views])
        _verify(spark, settings, store, release, vectors)
        for view in [*of_the_log, *of_users]:
            check_served(store, view, _newest(spark, settings, view), settings.publishing.verify_items)
        record_vectors(settings, vectors)
        if promote:
            check_lease()
            _flip(store, settings, release, "promote")


def promote_release(settings: Settings, codebook_version: int) -> None:
    """Points readers at a release that was verified before, in one transaction of the registry; loads nothing.

    Raises:
        ReleaseError: It was not published, not verified, or is retired.
        LeaseError: Another publisher is at work.
    """
    store = open_feature_store(settings.feature_repo_path)
    with one_publisher(store, settings) as check_lease:
        release = _verified_release(settings, store, codebook_version)
        check_lease()
        _flip(store, settings, release, "promote")


def roll_back(settings: Settings) -> Release:
    """Points readers at the release before the one they have; loads nothing. Twice leads two releases back.

    Returns:
        The release that is served now.

    Raises:
        ReleaseError: There is none before, or it is retired.
        LeaseError: Another publisher is at work.
    """
    store = open_feature_store(settings.feature_repo_path)
    with one_publisher(store, settings) as check_lease:
        versions, served = promoted_before(settings), _served_version(store)
        if served is not None and versions[-1:] != [served]:  # a flip that died before it was recorded
            versions.append(served)
        if len(versions) < 2:
            raise ReleaseError(
                f"Releases promoted before are {versions}, must be two to go back. Run: qarm release list"
            )
        release = _verified_release(settings, store, versions[-2])
        check_lease()
        _flip(store, settings, release, "rollback")
        return release


def verify_release(spark: SparkSession, settings: Settings, codebook_version: int) -> ReleaseManifest:
    """Compares the online store with Delta: counts of both, one codebook version, no null, and a sample read back.

    Returns:
        The manifest, with who verified it now.

    Raises:
        ReleaseError: Something differs, or Delta no longer holds what was published.
        LeaseError: A publisher is at work.
    """
    store = open_feature_store(settings.feature_repo_path)
    with one_publisher(store, settings):
        release = _verified_release(settings, store, codebook_version)
        return _verify(spark, settings, store, release, published_vectors(settings, release.encoder_version))


def definitions(config: str | Path) -> list[Entity | FeatureView | FeatureService]:
    """Returns all Feast objects of a project, so that ``feast apply`` leaves the registry as our jobs made it.

    Args:
        config: Path of ``qarm.yaml``.
    """
    settings = load_settings(config)
    views = {view.name: view for release in published_releases(settings) for view in release_views(settings, release)}
    found = [*entities(settings), *views.values(), *log_views(settings), *user_embedding_views(settings)]
    promoted = promoted_release(settings)
    if promoted is not None:
        vectors = published_vectors(settings, promoted.encoder_version)
        found += [item_service(release_view(settings, promoted)), *vector_services(settings, vectors)]
    return found


def _served_version(store: FeatureStore) -> int | None:
    """Returns the codebook version that the service names now, as the registry is."""
    try:
        service = store.registry.get_feature_service(ITEM_SERVICE, store.project)
    except FeastObjectNotFoundException:
        return None
    return int(service.tags["codebook_version"])


def _flip(store: FeatureStore, settings: Settings, release: Release, what: Literal["promote", "rollback"]) -> None:
    vectors = published_vectors(settings, release.encoder_version)
    store.apply([item_service(release_view(settings, release)), *vector_services(settings, vectors)])
    record_promotion(settings, release.codebook_version, what)
    _log.info("%s now serves %s", ITEM_SERVICE, release.view_name)


def _verified_release(settings: Settings, store: FeatureStore, codebook_version: int) -> Release:
    manifest = require_manifest(settings, codebook_version)
    release = manifest.release
    again = f"Run: qarm release publish --codebook-version {codebook_version}"
    if manifest.state != "verified":
        raise ReleaseError(
            f"The release of codebook version {codebook_version} is {manifest.state}, must be verified. {again}"
        )
    try:
        store.registry.get_feature_view(release.view_name, store.project)
    except FeastObjectNotFoundException as error:
        raise ReleaseError(f"{release.view_name} is not in the registry, must be. {again}") from error
    return release


def _verify(
    spark: SparkSession, settings: Settings, store: FeatureStore, release: Release, vectors: PublishedVectors
) -> ReleaseManifest:
    options, version = settings.publishing, release.codebook_version
    before = require_manifest(settings, version)
    found = {}
    for view in [release_view(settings, release), *vector_views(settings, vectors)]:
        rows = _source_rows(spark, view)
        found[view.name] = of_view = view_rows(rows, view)
        is_own = view.name == release.view_name  # those of its encoder grow with another release
        if is_own and before.release == release and before.views.get(view.name, of_view) != of_view:
            raise ReleaseError(
                f"Delta holds {of_view} for {view.name}, must be {before.views[view.name]} as published. "
                f"Run: qarm release publish --codebook-version {version}"
            )
        check_count(store, view, of_view.rows, codebook_version=version, keys_per_second=options.keys_per_second)
        check_served(store, view, rows, options.verify_items)
    after = dataclasses.replace(
        before, release=release, state="verified", views=found, verified=Deed.now(settings, "verify")
    )
    write_manifest(settings, after)
    return after


def _source_rows(spark: SparkSession, view: FeatureView) -> DataFrame:
    """Returns the rows of a release's view: those that its source names, at its Delta version."""
    return spark.sql(view.batch_source.query)


def _newest(spark: SparkSession, settings: Settings, view: FeatureView) -> DataFrame:
    """Returns the newest row of each key of a view that is no release's."""
    if view.batch_source.query:
        return newest_rows(_source_rows(spark, view), view)
    table = next(table for table in TABLES if table.name == view.name)
    return newest_rows(Warehouse(settings.warehouse_path, **settings.id_types, spark=spark).read(table), view)


def _materialize(store: FeatureStore, views: list[str]) -> None:
    # Feast prints its progress to stdout; the job's own line says what happened.
    with contextlib.redirect_stdout(io.StringIO()):
        store.materialize(_EPOCH, datetime.now(UTC), feature_views=views)
