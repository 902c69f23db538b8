"""The small publication of a run: rows that came since the last publication are served, and no other is written again.

In: the basis of the last publication, and the change feeds of the tables. Out: rows of these keys online, read back; then the
rows of all views are counted online, as after a whole publication. ``WholeWork`` if something else happened than that rows
came, or if the counts do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feast import FeatureStore
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.increment import publish_increment, require_increments
from qarm_features.feature_store.publishing.log_increment import publish_log_changes
from qarm_features.feature_store.publishing.release_checks import check_count
from qarm_features.feature_store.publishing.release_manifest import ReleaseError, promoted_release, require_manifest
from qarm_features.feature_store.publishing.releases import served_version
from qarm_features.feature_store.publishing.verification import verify_published_keys
from qarm_features.feature_store.store_errors import naming_the_store
from qarm_features.feature_store.views.feature_views import Release, log_views, open_feature_store, release_view
from qarm_features.feature_store.views.vector_views import published_vectors, vector_views
from qarm_features.jobs.bases import Basis, WholeWork, changes_since, counted, mark, read_basis, require_same
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.states import UNKNOWN
from qarm_features.settings.load import Settings
from qarm_features.storage.change_feed import GOES, KIND, commit_mark, why_no_feed
from qarm_features.storage.tables import (
    ITEM_COUNTERS,
    ITEM_SEMANTIC_IDS,
    TABLE_BY_NAME,
    USER_BEHAVIOR,
    USER_IMPRESSIONS,
)
from qarm_features.storage.warehouse import Warehouse

PUBLISHED = (ITEM_SEMANTIC_IDS, USER_BEHAVIOR, USER_IMPRESSIONS, ITEM_COUNTERS)


def publish_new_rows(
    context: JobContext, job: str, release: Release, seen: Mapping[str, Any], now: Mapping[str, Any]
) -> str:
    """Serves the rows that came to the promoted release and to the tables of the click log.

    Args:
        context: Context of the job.
        job: Name of the job.
        release: Release to publish.
        seen: Present inputs of the job.
        now: Present states of the tables, from ``published_tables``.

    Returns:
        A remark for people.

    Raises:
        WholeWork: Something else happened than that rows came.
        LeaseError: Another publisher holds the lease.
    """
    settings, warehouse, spark = context.settings, context.warehouse, context.spark
    basis = read_basis(settings, job, whole=context.whole)
    require_same(basis.inputs, seen, "changed", but=[table.name for table in PUBLISHED])
    store = open_feature_store(settings.feature_repo_path)
    _require_as_served(settings, store, basis, release, seen)
    _require_feed_of_ids(warehouse, settings, release)
    views = log_views(settings)
    changed = {}
    try:
        for view in views:
            feed = changes_since(warehouse, TABLE_BY_NAME[view.name], basis.tables.get(view.name), now[view.name])
            changed[view.name] = feed.persist()
            future = F.col("event_timestamp") > F.current_timestamp()
            if any(counted(TABLE_BY_NAME[view.name], feed, F.count_if(F.col(KIND) == GOES[0]), F.count_if(future))):
                raise WholeWork(f"rows of {view.name} left, or lie in the future")
        try:
            items = publish_increment(spark, settings, store, compare=False)
            rows = publish_log_changes(spark, settings, store, changed)
            with naming_the_store(store.config):
                _require_all_rows(context, store, items.release)
        except ReleaseError as error:
            raise WholeWork(f"the new rows alone give an error: {error}") from error
    finally:
        for feed in changed.values():
            feed.unpersist()
    gone = f", {items.deleted:,} deleted" if items.deleted else ""
    return f"{items.written:,} new items{gone} and {rows:,} new rows of behavior were written online"


def published_tables(warehouse: Warehouse) -> dict[str, Any]:
    """Returns the states of the tables that a publication serves."""
    return {table.name: mark(warehouse, table) for table in PUBLISHED}


def _require_as_served(
    settings: Settings, store: FeatureStore, basis: Basis, release: Release, seen: Mapping[str, Any]
) -> None:
    """Refuses another release than the promoted one, and what a small publication does not write."""
    version, promoted = release.codebook_version, promoted_release(settings)
    if promoted is None or promoted.codebook_version != version or served_version(store) != version:
        raise WholeWork(f"codebook version {version} is not served yet")
    if require_manifest(settings, version).state != "verified":
        raise WholeWork(f"the release of codebook version {version} is not verified")
    if basis.facts["held_back"]:
        raise WholeWork("rows of the future were held back")
    if UNKNOWN in seen.values():
        raise WholeWork(f"{next(name for name, state in seen.items() if state == UNKNOWN)} may have changed")
    if settings.publishing.user_embeddings or vector_views(
        settings, published_vectors(settings, release.encoder_version)
    ):
        raise WholeWork("vectors are published too")
    if settings.publishing.embeddings or settings.publishing.nearest_items:
        raise WholeWork("vectors are asked for")
    try:
        require_increments(store)
    except ReleaseError as error:
        raise WholeWork(str(error)) from error
    known = {view.name for view in store.registry.list_feature_views(store.project, allow_cache=False)}
    if missing := {release.view_name, *(view.name for view in log_views(settings))} - known:
        raise WholeWork(f"the registry lacks {', '.join(sorted(missing))}")


def _require_feed_of_ids(warehouse: Warehouse, settings: Settings, release: Release) -> None:
    published = require_manifest(settings, release.codebook_version).release.delta_version
    newest, path = warehouse.version(ITEM_SEMANTIC_IDS), warehouse.path(ITEM_SEMANTIC_IDS)
    assert newest is not None, "the release was read from the table"
    if newest < published:
        raise WholeWork("item_semantic_ids went back to an earlier version")
    if reason := why_no_feed(path, after=commit_mark(path, published), until=commit_mark(path, newest)):
        raise WholeWork(f"item_semantic_ids {reason}")


def _require_all_rows(context: JobContext, store: FeatureStore, release: Release) -> None:
    """Counts the rows of all views online, so that rows that a store lost are found."""
    settings = context.settings
    check_count(
        store,
        release_view(settings, release),
        release.rows,
        keys_per_second=settings.publishing.keys_per_second,
        publish="qarm publish-features",
        codebook_version=release.codebook_version,
    )
    verify_published_keys(context.spark, settings, store, log_views(settings))
