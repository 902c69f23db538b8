"""The small publication: the rows that a release got since it was published are served, and no other row is written again.

In: the promoted release, and the change feed of ``item_semantic_ids``. Out: rows of exactly these keys in the online store,
read back; then the view and the record of the release name the Delta version that holds them. The checksum of the release is
an exclusive or over its rows, so that the changes alone bring it up to date. A process that is killed in between has moved
neither view nor record, and the same changes are found again.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import NamedTuple

from feast import FeatureStore
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from qarm_features.feature_store.bulk_engine import BulkEngineConfig
from qarm_features.feature_store.bulk_write.bulk_nodes import write_online
from qarm_features.feature_store.publishing.gone_rows import GoneRows
from qarm_features.feature_store.publishing.one_publisher import one_publisher
from qarm_features.feature_store.publishing.ownership import Ownership
from qarm_features.feature_store.publishing.published_keys import keys_of
from qarm_features.feature_store.publishing.release_checks import check_codes, check_served, only_row, view_rows
from qarm_features.feature_store.publishing.release_manifest import (
    ReleaseError,
    ReleaseManifest,
    ViewRows,
    require_manifest,
    require_promoted_release,
    write_manifest,
)
from qarm_features.feature_store.publishing.store_settings import require_overwriting
from qarm_features.feature_store.publishing.view_loads import source_rows
from qarm_features.feature_store.store_errors import naming_the_store
from qarm_features.feature_store.views.feature_views import Release, entities, item_service, release_view
from qarm_features.settings.load import Settings
from qarm_features.storage.change_feed import COMES, COMMIT, GOES, KIND, changes, last_changes
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
from qarm_features.storage.warehouse import Warehouse

_COLUMNS = ("item_id", "rq_codes", "codebook_version", "event_timestamp")
_log = logging.getLogger(__name__)


class Increment(NamedTuple):
    """What a small publication did.

    Attributes:
        release: The promoted release, as it is now.
        written: Number of keys whose rows were written online.
        deleted: Number of keys whose rows were deleted online.
    """

    release: Release
    written: int
    deleted: int


def require_increments(store: FeatureStore) -> None:
    """Refuse a feature repo whose engine or online store cannot write rows of single keys.

    Raises:
        ReleaseError: ``batch_engine`` is not the bulk engine, or the online store is set to keep older rows.
    """
    require_overwriting(store.config)
    if not isinstance(store.config.batch_engine, BulkEngineConfig):
        raise ReleaseError(
            f"batch_engine in feature_store.yaml is {store.config.batch_engine.type}, must be {BulkEngineConfig().type} to "
            "serve rows as they arrive. Change it there."
        )


def publish_increment(spark: SparkSession, settings: Settings, store: FeatureStore, *, compare: bool) -> Increment:
    """Serve the rows that the promoted release got since it was published.

    Args:
        spark: Session that reads Delta and writes the online store from its executors.
        settings: Settings of the project.
        store: Feature store, for which ``require_increments`` passed.
        compare: True compares both versions of the table, for one that may have kept no feed since the release was
            published. False reads its change feed, at a cost of the changed rows alone.

    Returns:
        The release as it is now, and the rows that were written.

    Raises:
        ReleaseError: No release is promoted, it is not verified, rows would be served wrongly, or a row that was read back
            differs.
        LeaseError: Another publisher holds the lease.
    """
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types, spark=spark)
    with naming_the_store(store.config), one_publisher(store, settings, spark) as check_lease:
        manifest = _served_manifest(settings)
        release, newest = manifest.release, warehouse.version(ITEM_SEMANTIC_IDS)
        if newest is None or newest <= release.delta_version:
            return Increment(release, 0, 0)
        project = Ownership.made(settings, store)
        view = release_view(settings, release)
        project.require([*entities(settings), view, item_service(view)])
        changed = _changed(warehouse, release, newest, compare=compare).persist()
        try:
            after, upserts, gone = _after(spark, settings, manifest, changed, newest)
            if after is manifest:
                return Increment(release, 0, 0)
            written, deleted = _serve(GoneRows(spark, settings, store), after.release, upserts, gone)
            check_lease()
            project.store.apply(project.tagged([*entities(settings), release_view(settings, after.release)]))
            check_lease()
            write_manifest(settings, after)
            return Increment(after.release, written, deleted)
        finally:
            changed.unpersist()


def _served_manifest(settings: Settings) -> ReleaseManifest:
    manifest = require_manifest(settings, require_promoted_release(settings).codebook_version)
    if manifest.state != "verified":
        raise ReleaseError(
            f"The release of codebook version {manifest.release.codebook_version} is {manifest.state}, must be verified. "
            "Run: qarm publish-features"
        )
    return manifest


def _changed(warehouse: Warehouse, release: Release, newest: int, *, compare: bool) -> DataFrame:
    """Return the changes of the rows of a release, with the columns of the change feed."""
    own = F.col("codebook_version") == release.codebook_version
    if not compare:
        path = warehouse.path(ITEM_SEMANTIC_IDS)
        feed = changes(warehouse.spark, path, after=release.delta_version, until=newest)
        return feed.where(own).select(*_COLUMNS, KIND, COMMIT)
    before, after = (
        warehouse.read(ITEM_SEMANTIC_IDS, version=version).where(own).select(*_COLUMNS)
        for version in (release.delta_version, newest)
    )
    names = list(_COLUMNS)
    comes = after.join(before, on=names, how="left_anti").withColumn(KIND, F.lit(COMES[0]))
    goes = before.join(after, on=names, how="left_anti").withColumn(KIND, F.lit(GOES[0]))
    return comes.unionByName(goes).withColumn(COMMIT, F.lit(newest).cast("bigint"))


def _after(
    spark: SparkSession, settings: Settings, manifest: ReleaseManifest, changed: DataFrame, newest: int
) -> tuple[ReleaseManifest, DataFrame, DataFrame]:
    """Return the record of the release after the changes, and the last row of each changed key: to write, and to delete."""
    release, comes = manifest.release, F.col(KIND).isin(*COMES)
    totals = only_row(changed, F.count_if(comes).alias("came"), F.count_if(~comes).alias("left"))
    rows = last_changes(changed, "item_id")
    upserts, gone = rows.where(comes), rows.where(~comes)
    if not totals["came"] and not totals["left"]:
        return manifest, upserts, gone
    after = dataclasses.replace(
        release,
        delta_version=newest,
        rows=release.rows + totals["came"] - totals["left"],
        moved_at=newest if totals["left"] else release.moved_at,
    )
    view, known = release_view(settings, after), manifest.views.get(release.view_name)
    if known is None:  # An early version computed no checksum.
        served = view_rows(source_rows(spark, settings, view), view)
    else:
        moved = view_rows(changed, view)
        served = ViewRows(after.rows, f"{int(known.checksum, 16) ^ int(moved.checksum, 16):016x}")
    views = {**manifest.views, view.name: served}
    return dataclasses.replace(manifest, release=after, views=views), upserts, gone


def _serve(gone_rows: GoneRows, release: Release, upserts: DataFrame, gone: DataFrame) -> tuple[int, int]:
    """Write and delete rows online, read some of them back, and return their numbers."""
    settings, store = gone_rows.settings, gone_rows.store
    view = release_view(settings, release)
    rows, keys = upserts.persist(), keys_of(gone, view)
    try:
        expected, deleted = rows.count(), keys.count()
        check_codes(rows, dataclasses.replace(release, rows=expected))
        written = write_online(view, rows, store.config) if expected else 0
        check_served(store, view, rows, settings.publishing.verify_items)
        if deleted and not gone_rows.delete_keys(view, keys):
            _log.warning("WARNING: %d keys that left are still served: this store deletes no single rows.", deleted)
        return written, deleted
    finally:
        rows.unpersist()
