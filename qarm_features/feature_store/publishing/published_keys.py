"""The keys that each view may hold in the online store, kept in the table ``published_keys``.

In: the keys of a view's rows. Out: the keys of this and all earlier loads that were not deleted since. Keys are added before
they are loaded and removed after they were deleted, so the table names every key of the store even if a publisher was killed
in between.
"""

from __future__ import annotations

from feast import FeatureView
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.storage.tables import PUBLISHED_KEYS
from qarm_features.storage.warehouse import Warehouse


def keys_of(rows: DataFrame, view: FeatureView) -> DataFrame:
    """Return the keys (column ``key``, as text) of rows of a view in which no key occurs twice."""
    return rows.select(F.col(view.entity_columns[0].name).cast("string").alias("key"))


def published_keys(warehouse: Warehouse, view_name: str) -> DataFrame:
    """Return the keys (column ``key``) that a view may hold in the online store; none before its first publication."""
    return warehouse.read_or_empty(PUBLISHED_KEYS).where(F.col("view") == view_name).select("key")


def gone_keys(warehouse: Warehouse, view_name: str, keys: DataFrame) -> DataFrame:
    """Return the published keys of a view that are not among ``keys``."""
    return published_keys(warehouse, view_name).join(keys, on="key", how="left_anti")


def add_published_keys(warehouse: Warehouse, view_name: str, keys: DataFrame) -> None:
    """Record keys that are about to be loaded. Keys that are known already write nothing."""
    new = keys.join(published_keys(warehouse, view_name), on="key", how="left_anti").persist()
    if not new.isEmpty():
        warehouse.append(PUBLISHED_KEYS, new.withColumn("view", F.lit(view_name)))
    new.unpersist()


def replace_published_keys(warehouse: Warehouse, view_name: str, keys: DataFrame) -> None:
    """Record that a view holds these keys alone."""
    rows = keys.withColumn("view", F.lit(view_name))
    warehouse.overwrite(PUBLISHED_KEYS, rows, where=f"view = '{view_name}'")
