"""The small publication of the click log: the newest rows of some users and items are served, and no other row is read back.

In: views of the click log, and the keys whose rows may have changed. Out: their newest rows online. The keys are recorded
before they are loaded, so that a later publication knows whom to delete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from feast import FeatureStore, FeatureView
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from qarm_features.feature_store.bulk_write.bulk_nodes import write_online
from qarm_features.feature_store.publishing.one_publisher import one_publisher
from qarm_features.feature_store.publishing.ownership import Ownership
from qarm_features.feature_store.publishing.published_keys import add_published_keys, keys_of
from qarm_features.feature_store.publishing.release_checks import check_served
from qarm_features.feature_store.publishing.view_loads import moment_literal, newest_rows, source_rows
from qarm_features.feature_store.store_errors import naming_the_store
from qarm_features.feature_store.views.feature_views import log_views
from qarm_features.settings.load import Settings
from qarm_features.storage.change_feed import COMES, COMMIT, KIND
from qarm_features.storage.warehouse import Warehouse

Rows = Callable[[FeatureView, datetime], DataFrame]


def publish_log_increment(
    spark: SparkSession, settings: Settings, store: FeatureStore, keys: Mapping[str, DataFrame]
) -> int:
    """Serve the newest rows of some users and items. Rows of the future are held back until the next publication.

    Args:
        spark: Session that reads Delta and writes the online store from its executors.
        settings: Settings of the project.
        store: Feature store, for which ``require_increments`` passed.
        keys: Distinct keys by the column that names them, ``user_id`` and ``item_id``.

    Returns:
        Number of rows that were written online.

    Raises:
        ReleaseError: A row that was read back differs.
        LeaseError: Another publisher holds the lease.
    """

    def rows_of(view: FeatureView, moment: datetime) -> DataFrame:
        entity = view.entity_columns[0].name
        touched = source_rows(spark, settings, view).join(keys[entity], on=entity, how="left_semi")
        return newest_rows(touched, view, moment, with_time=True)

    return _publish(spark, settings, store, rows_of)


def publish_log_changes(
    spark: SparkSession, settings: Settings, store: FeatureStore, changed: Mapping[str, DataFrame]
) -> int:
    """Serve the rows that came to the tables of the click log since they were published, where they are the newest.

    A user whose newest row did not change since then is not written, because it is served already. The arguments and errors
    are those of ``publish_log_increment``, but for one.

    Args:
        spark: Session that reads Delta and writes the online store from its executors.
        settings: Settings of the project.
        store: Feature store, for which ``require_increments`` passed.
        changed: Changed rows of each view, by its name, with the columns of the change feed.

    Returns:
        Number of rows that were written online.
    """

    def rows_of(view: FeatureView, moment: datetime) -> DataFrame:
        key = [view.entity_columns[0].name, "event_timestamp"]
        names = [feature.name for feature in view.features]
        came = changed[view.name].where(F.col(KIND).isin(*COMES))
        last = came.groupBy(*key).agg(F.max_by(F.struct(*names), COMMIT).alias("last")).select(*key, "last.*")
        times = source_rows(spark, settings, view).select(*key).join(last.select(key[0]), on=key[0], how="left_semi")
        past = times.where(F.col("event_timestamp") <= moment_literal(moment))
        newest = past.groupBy(key[0]).agg(F.max("event_timestamp").alias("event_timestamp"))
        return last.join(newest, on=key, how="inner").select(key[0], *names, "event_timestamp")

    return _publish(spark, settings, store, rows_of)


def _publish(spark: SparkSession, settings: Settings, store: FeatureStore, rows_of: Rows) -> int:
    """Serve the rows of each view as of this moment, and return their number."""
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types, spark=spark)
    written, views, moment = 0, log_views(settings), datetime.now(UTC)
    with naming_the_store(store.config), one_publisher(store, settings, spark) as check_lease:
        Ownership.made(settings, store).require(views)
        for view in views:
            rows = rows_of(view, moment).persist()
            try:
                add_published_keys(warehouse, view.name, keys_of(rows, view))
                check_lease()
                written += write_online(view, rows, store.config)
                check_served(store, view, rows, settings.publishing.verify_items)
            finally:
                rows.unpersist()
    return written
