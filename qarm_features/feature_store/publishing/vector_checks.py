"""Which vectors a release publishes, and whether their rows are what a reader may be given.

In: Delta tables, as they are now. Out: a `PublishedVectors` of the release's encoder version, or a `ReleaseError`.
"""

from __future__ import annotations

import logging

from feast import FeatureStore, FeatureView
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.release_checks import newest_rows
from qarm_features.feature_store.publishing.release_manifest import ReleaseError
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.feature_store.views.vector_views import PublishedVectors, published_vectors
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS
from qarm_features.storage.warehouse import Warehouse

_log = logging.getLogger(__name__)


def vectors_to_publish(
    spark: SparkSession, settings: Settings, store: FeatureStore, release: Release
) -> PublishedVectors:
    """Returns what ``publishing.embeddings`` and ``publishing.nearest_items`` ask for, after a look at every row.

    What was published of the encoder version before and is not asked for any more stays as it is.

    Raises:
        ReleaseError: There are no rows, an item occurs twice, or a vector is null, not finite or of another length.
    """
    options, warehouse = settings.publishing, Warehouse(settings.warehouse_path, **settings.id_types, spark=spark)
    known, version = published_vectors(settings, release.encoder_version), release.encoder_version
    found = {**vars(known), "vector_index": bool(getattr(store.config.online_store, "vector_enabled", False))}
    if options.embeddings:
        at = warehouse.version(ITEM_EMBEDDINGS)
        rows = warehouse.read(ITEM_EMBEDDINGS, version=at).where(F.col("encoder_version") == version)
        found |= {"embeddings_at": at, "dim": _checked(rows, "embedding", f"encoder_version = {version}")}
    if options.nearest_items:
        if warehouse.version(ITEM_NEAREST_ITEMS) is None:
            raise ReleaseError("item_nearest_items does not exist, must hold VQ codes. Run: qarm find-nearest-items")
        at = warehouse.version(ITEM_NEAREST_ITEMS)
        rows = warehouse.read(ITEM_NEAREST_ITEMS, version=at).where(F.col("encoder_version") == version)
        bank = rows.agg(F.max("bank_version")).first()[0]
        if bank is None:
            raise ReleaseError(
                f"item_nearest_items has no row with encoder_version = {version}, must have some. "
                "Run: qarm find-nearest-items"
            )
        _check_nearest(rows.where(F.col("bank_version") == bank), f"bank_version = {bank}")
        if known.bank_version not in (None, bank):
            found["older_banks"] = (*known.older_banks, (known.bank_version, known.nearest_at))
        found |= {"nearest_at": at, "bank_version": bank}
    return PublishedVectors(**found)


def check_user_embeddings(spark: SparkSession, view: FeatureView) -> None:
    """Refuses users' embeddings that would be served wrongly.

    Raises:
        ReleaseError: There are no rows, or a vector is null, not finite or of another length.
    """
    _checked(
        newest_rows(spark.sql(view.batch_source.query), view),
        "user_embedding",
        "publishing.user_embeddings",
        key="user_id",
    )


def _is_number(value: Column) -> Column:
    return value.isNotNull() & ~F.isnan(value) & (F.abs(value) != float("inf"))


def _checked(rows: DataFrame, column: str, what: str, *, key: str = "item_id") -> int:
    """Returns D of vectors that all are whole."""
    found = _agg(rows, key, F.forall(column, _is_number) & (F.size(column) > 0), F.size(column))
    _refuse(found, what, f"{column} null, empty or not finite")
    if found["shortest"] != found["longest"]:
        raise ReleaseError(
            f"{column} of {what} has {found['shortest']} to {found['longest']} numbers, must have the same count in "
            "every row. Mend the table."
        )
    _log.info("%s of %s: %s rows of %d numbers", column, what, f"{found['rows']:,}", found["longest"])
    return found["longest"]


def _check_nearest(rows: DataFrame, what: str) -> None:
    whole = F.forall("vq_codes", lambda one: one.isNotNull()) & F.forall("vq_similarities", lambda x: x.isNotNull())
    found = _agg(rows, "item_id", whole & (F.size("vq_codes") == F.size("vq_similarities")), F.size("vq_codes"))
    _refuse(found, what, "vq_codes null or not one for each similarity")


def _agg(rows: DataFrame, key: str, good: Column, size: Column):
    return rows.agg(
        F.count("*").alias("rows"),
        F.count_distinct(key).alias("keys"),
        F.count_if(~F.coalesce(good, F.lit(False))).alias("bad"),
        F.min(size).alias("shortest"),
        F.max(size).alias("longest"),
    ).first()


def _refuse(found, what: str, bad: str) -> None:
    if not found["rows"]:
        raise ReleaseError(f"There is no row of {what}, must be some. Run: qarm embed-items, or look at the table.")
    if found["rows"] != found["keys"]:
        raise ReleaseError(f"{found['rows']:,} rows of {what} are of {found['keys']:,} keys, must be one a key.")
    if found["bad"]:
        raise ReleaseError(f"{found['bad']:,} rows of {what} have {bad}, must be none. Mend the table.")
