"""Choice and checks of the vectors that are published with a release.

In: the Delta tables in their latest versions. Out: a ``PublishedVectors`` of the release's encoder version, or a
``ReleaseError`` that names the first fault.
"""

from __future__ import annotations

import logging
from datetime import datetime

from feast import FeatureStore, FeatureView
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.release_checks import only_row
from qarm_features.feature_store.publishing.release_manifest import ReleaseError
from qarm_features.feature_store.publishing.view_loads import newest_rows
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.feature_store.views.vector_views import PublishedVectors, published_vectors
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS
from qarm_features.storage.warehouse import Warehouse

_log = logging.getLogger(__name__)


def vectors_to_publish(
    spark: SparkSession, settings: Settings, store: FeatureStore, release: Release
) -> PublishedVectors:
    """Return the vectors that ``publishing.embeddings`` and ``publishing.nearest_items`` ask for, and check every row.

    Vectors of the encoder version that were published before stay published, even if the settings no longer name them.

    Raises:
        ReleaseError: There are no rows, an item occurs twice, or a vector is null, not finite or of another length.
    """
    options, warehouse = settings.publishing, Warehouse(settings.warehouse_path, **settings.id_types, spark=spark)
    known, version = published_vectors(settings, release.encoder_version), release.encoder_version
    published = {**vars(known), "vector_index": bool(getattr(store.config.online_store, "vector_enabled", False))}
    if options.embeddings:
        delta_version = warehouse.version(ITEM_EMBEDDINGS)
        rows = warehouse.read(ITEM_EMBEDDINGS, version=delta_version).where(F.col("encoder_version") == version)
        published |= {
            "embeddings_at": delta_version,
            "dim": _checked(rows, "embedding", f"encoder_version = {version}"),
        }
    if options.nearest_items:
        delta_version = warehouse.version(ITEM_NEAREST_ITEMS)
        if delta_version is None:
            raise ReleaseError("There is no table item_nearest_items with VQ codes. Run: qarm find-nearest-items")
        rows = warehouse.read(ITEM_NEAREST_ITEMS, version=delta_version).where(F.col("encoder_version") == version)
        bank = only_row(rows, F.max("bank_version"))[0]
        if bank is None:
            raise ReleaseError(
                f"item_nearest_items has no row with encoder_version = {version}. Run: qarm find-nearest-items"
            )
        _check_nearest(rows.where(F.col("bank_version") == bank), f"bank_version = {bank}")
        if known.bank_version not in (None, bank):
            published["older_banks"] = (*known.older_banks, (known.bank_version, known.nearest_at))
        published |= {"nearest_at": delta_version, "bank_version": bank}
    return PublishedVectors(**published)


def check_user_embeddings(spark: SparkSession, view: FeatureView, moment: datetime) -> None:
    """Refuse embeddings of users that would be served wrongly.

    Args:
        spark: Session that reads the source.
        view: View of the embeddings.
        moment: Moment of the publication. Rows after it are not loaded.

    Raises:
        ReleaseError: There are no rows, or a vector is null, not finite or of another length.
    """
    _checked(
        newest_rows(spark.sql(view.batch_source.query), view, moment),
        "user_embedding",
        "publishing.user_embeddings",
        key="user_id",
    )


def _is_number(value: Column) -> Column:
    return value.isNotNull() & ~F.isnan(value) & (F.abs(value) != float("inf"))


def _checked(rows: DataFrame, column: str, what: str, *, key: str = "item_id") -> int:
    """Check the vectors of a column and return their length D.

    Args:
        rows: Rows to publish.
        column: Column of vectors.
        what: Origin of the rows, for errors, such as ``encoder_version = 5``.
        key: Column of entity IDs, which must not occur twice.
    """
    totals = _totals(rows, key, F.forall(column, _is_number) & (F.size(column) > 0), F.size(column))
    _refuse_faults(totals, what, f"{column} null, empty or not finite")
    if totals["shortest"] != totals["longest"]:
        raise ReleaseError(
            f"{column} of {what} has {totals['shortest']} to {totals['longest']} numbers, must have the same number in every "
            "row. Correct the table."
        )
    _log.info("%s of %s: %s rows of %d numbers", column, what, f"{totals['rows']:,}", totals["longest"])
    return totals["longest"]


def _check_nearest(rows: DataFrame, what: str) -> None:
    whole = F.forall("vq_codes", lambda one: one.isNotNull()) & F.forall("vq_similarities", lambda x: x.isNotNull())
    totals = _totals(rows, "item_id", whole & (F.size("vq_codes") == F.size("vq_similarities")), F.size("vq_codes"))
    _refuse_faults(totals, what, "vq_codes null or not one for each similarity")


def _totals(rows: DataFrame, key: str, good: Column, size: Column) -> Row:
    """Return the number of rows, of distinct keys and of rows that are not good, and the smallest and largest size."""
    return only_row(
        rows,
        F.count("*").alias("rows"),
        F.count_distinct(key).alias("keys"),
        F.count_if(~F.coalesce(good, F.lit(False))).alias("bad"),
        F.min(size).alias("shortest"),
        F.max(size).alias("longest"),
    )


def _refuse_faults(totals: Row, what: str, fault: str) -> None:
    if not totals["rows"]:
        raise ReleaseError(f"There is no row of {what}. Check the table, or run: qarm embed-items")
    if totals["rows"] != totals["keys"]:
        raise ReleaseError(
            f"{totals['rows']:,} rows of {what} have {totals['keys']:,} keys, must have one row per key. "
            "In a table of the project, run: qarm repair. In a table of your own, remove the keys that occur twice."
        )
    if totals["bad"]:
        raise ReleaseError(f"{totals['bad']:,} rows of {what} have {fault}, must be none. Correct the table.")
