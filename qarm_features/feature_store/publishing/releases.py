"""Publication of a codebook version: its views are loaded, read back and only then served. Rollback to earlier releases.

In: ``item_semantic_ids`` of one codebook version and the tables of the click log. Out: loaded and verified views, and the
feature service ``item_semantic_id`` that names them. A publisher may be stopped at any moment: readers keep the last whole
release, and a second run finishes the work. Of two publishers at the same time, one gets an error.
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
    ReleaseAction,
    ReleaseError,
    ReleaseManifest,
    ViewRows,
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
    """Publish a release: apply its views, load the online store, verify the rows, then point readers at it.

    Args:
        spark: Session that reads Delta and loads the online store from its executors.
        settings: Settings of the project.
        release: Release to publish.
        promote: False leaves readers at the release they have. ``promote_release`` can point them at this one later.

    Raises:
        ReleaseError: The table holds other rows than ``release`` says, or a row that was read back differs. Readers keep
            the release they had.
        LeaseError: Another publisher holds the lease.

    Example:
        The job ``publish-features`` does this::

            publish_release(spark, settings, Release(codebook_version=1, encoder_version=0, num_levels=3,
                                                     codebook_size=256, delta_version=7, rows=100_000))
    """
    store = open_feature_store(settings.feature_repo_path)
    with one_publisher(store, settings) as check_lease:
        known = find_manifest(settings, release.codebook_version)
        if known is None or known.state != "verified":
            promotions = known.promotions if known else ()
            write_manifest(settings, ReleaseManifest(release, state="loading", promotions=promotions))
        check_codes(_source_rows(spark, release_view(settings, release)), release)
        vectors, user_views = vectors_to_publish(spark, settings, store, release), user_embedding_views(settings)
        for view in user_views:
            check_user_embeddings(spark, view)
        other_views = [*log_views(settings), *user_views]
        views = [release_view(settings, release), *vector_views(settings, vectors), *other_views]
        store.apply([*entities(settings), *views])
        _materialize(store, [view.name for view in views])
        _verify(spark, settings, store, release, vectors)
        for view in other_views:
            check_served(store, view, _newest(spark, settings, view), settings.publishing.verify_items)
        record_vectors(settings, vectors)
        if promote:
            check_lease()
            _flip(store, settings, release, "promote")


def promote_release(settings: Settings, codebook_version: int) -> None:
    """Point readers at a release that was verified before, in one transaction of the registry. It loads nothing.

    Raises:
        ReleaseError: The release was not published, was not verified, or is retired.
        LeaseError: Another publisher holds the lease.
    """
    store = open_feature_store(settings.feature_repo_path)
    with one_publisher(store, settings) as check_lease:
        release = _verified_release(settings, store, codebook_version)
        check_lease()
        _flip(store, settings, release, "promote")


def roll_back(settings: Settings) -> Release:
    """Point readers at the release before the one they have. It loads nothing, and two calls lead two releases back.

    Returns:
        The release that is served now.

    Raises:
        ReleaseError: There is no release before, or it is retired.
        LeaseError: Another publisher holds the lease.
    """
    store = open_feature_store(settings.feature_repo_path)
    with one_publisher(store, settings) as check_lease:
        versions, served = promoted_before(settings), _served_version(store)
        if served is not None and versions[-1:] != [served]:  # the process was stopped before it recorded the flip
            versions.append(served)
        if len(versions) < 2:
            raise ReleaseError(
                f"Releases promoted so far are {versions}, must be at least two to roll back. Run: qarm release list"
            )
        release = _verified_release(settings, store, versions[-2])
        check_lease()
        _flip(store, settings, release, "rollback")
        return release


def verify_release(spark: SparkSession, settings: Settings, codebook_version: int) -> ReleaseManifest:
    """Compare the online store with Delta: the number of rows, one codebook version, no nulls, and a sample of rows.

    Returns:
        The manifest with this verification.

    Raises:
        ReleaseError: The stores differ, or Delta no longer holds the rows that were published.
        LeaseError: A publisher holds the lease.
    """
    store = open_feature_store(settings.feature_repo_path)
    with one_publisher(store, settings):
        release = _verified_release(settings, store, codebook_version)
        return _verify(spark, settings, store, release, published_vectors(settings, release.encoder_version))


def definitions(config: str | Path) -> list[Entity | FeatureView | FeatureService]:
    """Return all Feast objects of a project, so that ``feast apply`` leaves the registry as our jobs made it.

    Args:
        config: Path of ``qarm.yaml``.

    Example:
        ``feature_repo/feature_definitions.py`` does this::

            globals().update({f"{type(one).__name__}_{one.name}": one for one in definitions("qarm.yaml")})
    """
    settings = load_settings(config)
    views = {view.name: view for release in published_releases(settings) for view in release_views(settings, release)}
    objects = [*entities(settings), *views.values(), *log_views(settings), *user_embedding_views(settings)]
    promoted = promoted_release(settings)
    if promoted is not None:
        vectors = published_vectors(settings, promoted.encoder_version)
        objects += [item_service(release_view(settings, promoted)), *vector_services(settings, vectors)]
    return objects


def _served_version(store: FeatureStore) -> int | None:
    """Return the codebook version that the service names now in the registry."""
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
        raise ReleaseError(f"The registry has no view {release.view_name}. {again}") from error
    return release


def _verify(
    spark: SparkSession, settings: Settings, store: FeatureStore, release: Release, vectors: PublishedVectors
) -> ReleaseManifest:
    options, version = settings.publishing, release.codebook_version
    before = require_manifest(settings, version)
    verified: dict[str, ViewRows] = {}
    for view in [release_view(settings, release), *vector_views(settings, vectors)]:
        rows = _source_rows(spark, view)
        totals = view_rows(rows, view)
        verified[view.name] = totals
        published = before.views.get(view.name, totals) if before.release == release else totals
        if view.name == release.view_name and totals != published:  # views of the encoder grow with other releases
            raise ReleaseError(
                f"Delta holds {totals} for {view.name}, must be {published} as published. "
                f"Run: qarm release publish --codebook-version {version}"
            )
        check_count(store, view, totals.rows, codebook_version=version, keys_per_second=options.keys_per_second)
        check_served(store, view, rows, options.verify_items)
    after = dataclasses.replace(
        before, release=release, state="verified", views=verified, verified=ReleaseAction.now(settings, "verify")
    )
    write_manifest(settings, after)
    return after


def _source_rows(spark: SparkSession, view: FeatureView) -> DataFrame:
    """Return the rows of the source of a release's view, at its Delta version."""
    return spark.sql(view.batch_source.query)


def _newest(spark: SparkSession, settings: Settings, view: FeatureView) -> DataFrame:
    """Return the newest row of each key of a view that belongs to no release."""
    if view.batch_source.query:
        return newest_rows(_source_rows(spark, view), view)
    table = next(table for table in TABLES if table.name == view.name)
    return newest_rows(Warehouse(settings.warehouse_path, **settings.id_types, spark=spark).read(table), view)


def _materialize(store: FeatureStore, views: list[str]) -> None:
    # Feast prints its progress to stdout. The job logs a line of its own.
    with contextlib.redirect_stdout(io.StringIO()):
        store.materialize(_EPOCH, datetime.now(UTC), feature_views=views)
