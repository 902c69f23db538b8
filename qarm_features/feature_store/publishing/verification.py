"""Verification of what is served: the views of a release, and the views of the click log and of users.

In: views and their rows in Delta. Out: the manifest of a verified release, or a ``ReleaseError`` that names the first fault.
While a release is published, rows of keys that left are deleted here if the check finds any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from feast import FeatureStore, FeatureView
from pyspark.sql import SparkSession

from qarm_features.feature_store.publishing.gone_rows import GoneRows
from qarm_features.feature_store.publishing.publication import Publication
from qarm_features.feature_store.publishing.published_keys import keys_of, published_keys
from qarm_features.feature_store.publishing.release_checks import (
    TooManyRowsError,
    check_count,
    check_served,
    view_rows,
)
from qarm_features.feature_store.publishing.release_manifest import (
    ReleaseAction,
    ReleaseError,
    ReleaseManifest,
    ViewRows,
    require_manifest,
    write_manifest,
)
from qarm_features.feature_store.publishing.view_loads import ViewLoad, source_rows
from qarm_features.feature_store.views.feature_views import Release, release_view
from qarm_features.feature_store.views.vector_views import PublishedVectors, vector_views
from qarm_features.settings.load import Settings
from qarm_features.storage.warehouse import Warehouse

_PUBLISH = "qarm publish-features"


def verify_release_views(
    spark: SparkSession,
    settings: Settings,
    store: FeatureStore,
    release: Release,
    vectors: PublishedVectors,
    gone: GoneRows | None = None,
    published: Publication | None = None,
) -> ReleaseManifest:
    """Compare the views of a release with Delta, and record the verification.

    Args:
        spark: Session that reads Delta.
        settings: Settings of the project.
        store: Feature store.
        release: Release to verify.
        vectors: Published vectors of the release's encoder version.
        gone: Deletes rows that do not belong to a view; None refuses them.
        published: Publication to which deleted rows are added.

    Raises:
        ReleaseError: The stores differ, or Delta no longer holds the rows that were published.
    """
    options, version = settings.publishing, release.codebook_version
    before = require_manifest(settings, version)
    publish = f"qarm release publish --codebook-version {version}"
    verified: dict[str, ViewRows] = {}
    for view in [release_view(settings, release), *vector_views(settings, vectors)]:
        rows = source_rows(spark, settings, view)
        totals = view_rows(rows, view)
        verified[view.name] = totals
        expected = before.views.get(view.name, totals) if before.release == release else totals
        if view.name == release.view_name and totals != expected:  # views of the encoder grow with other releases
            raise ReleaseError(f"Delta holds {totals} for {view.name}, must be {expected} as published. Run: {publish}")
        load = ViewLoad(view, rows, keys_of(rows, view), totals.rows, of_release=True)
        _count(settings, store, load, publish, gone, published, codebook_version=version)
        check_served(store, view, rows, options.verify_items)
    after = dataclasses.replace(
        before, release=release, state="verified", views=verified, verified=ReleaseAction.now(settings, "verify")
    )
    write_manifest(settings, after)
    return after


def verify_other_views(
    settings: Settings, store: FeatureStore, loads: Sequence[ViewLoad], gone: GoneRows, published: Publication
) -> None:
    """Compare the views of the click log and of users with what was loaded, and delete rows of keys that left.

    Raises:
        ReleaseError: The stores differ.
    """
    for load in loads:
        if load.of_release:
            continue
        if gone.can_be_deleted(load.view):
            _count(settings, store, load, _PUBLISH, gone, published)
            gone.forget(load)
        if not load.is_emptied:
            check_served(store, load.view, load.rows, settings.publishing.verify_items)


def verify_published_keys(
    spark: SparkSession, settings: Settings, store: FeatureStore, views: Sequence[FeatureView]
) -> None:
    """Compare the number of keys that each view holds with the number that was published last.

    Raises:
        ReleaseError: A view holds more or fewer keys.
    """
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types, spark=spark)
    for view in views:
        keys = published_keys(warehouse, view.name).count()
        if keys:  # none are recorded of a view that an older version published
            kps = settings.publishing.keys_per_second
            check_count(store, view, keys, keys_per_second=kps, publish=_PUBLISH)


def _count(
    settings: Settings,
    store: FeatureStore,
    load: ViewLoad,
    publish: str,
    gone: GoneRows | None,
    published: Publication | None,
    *,
    codebook_version: int | None = None,
) -> None:
    """Check the number of rows of a view; where there are too many, delete those of other keys and check again."""

    def check() -> None:
        check_count(
            store,
            load.view,
            load.count,
            keys_per_second=settings.publishing.keys_per_second,
            publish=publish,
            codebook_version=codebook_version,
        )

    try:
        check()
    except TooManyRowsError:
        if gone is None or published is None:
            raise
        published.add_gone(load.view.name, gone.delete_strays(load), deleted=True)
        check()
