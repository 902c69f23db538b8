"""The rows that a publication loads into each view, as of one moment.

In: views and their sources. Out: for each view its newest rows up to the moment, their keys, and the rows of the future,
which are held back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from feast import FeatureView
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.publication import HeldBack
from qarm_features.feature_store.publishing.published_keys import keys_of
from qarm_features.feature_store.publishing.release_checks import only_row
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import TABLES
from qarm_features.storage.warehouse import Warehouse


@dataclass(frozen=True)
class ViewLoad:
    """The rows of a view as of one moment.

    Attributes:
        view: View of the rows.
        rows: Newest row of each key: the key and the features.
        keys: Their keys (column ``key``, as text).
        count: Number of keys.
        held_back: Rows of the future; None if there are none.
        of_release: True for a view whose rows belong to a release.
        is_emptied: True for a view that is no longer published. It has no source any more, and no rows.
    """

    view: FeatureView
    rows: DataFrame
    keys: DataFrame
    count: int
    held_back: HeldBack | None = None
    of_release: bool = False
    is_emptied: bool = False


def source_rows(spark: SparkSession, settings: Settings, view: FeatureView) -> DataFrame:
    """Return all rows of the source of a view: of its query, else of the table that has its name."""
    if view.batch_source.query:
        return spark.sql(view.batch_source.query)
    table = next(table for table in TABLES if table.name == view.name)
    return Warehouse(settings.warehouse_path, **settings.id_types, spark=spark).read(table)


@contextlib.contextmanager
def view_loads(
    spark: SparkSession,
    settings: Settings,
    moment: datetime,
    *,
    of_release: Sequence[FeatureView],
    others: Sequence[FeatureView],
    emptied: Sequence[FeatureView] = (),
) -> Iterator[list[ViewLoad]]:
    """Read what a publication loads, and keep the keys in Spark meanwhile.

    Args:
        spark: Session that reads the sources.
        settings: Settings of the project.
        moment: Moment of the publication.
        of_release: Views of the release, in whose sources no key occurs twice.
        others: Views of the click log and of users.
        emptied: Views that are no longer published. All of their rows must leave.

    Yields:
        One load per view.
    """
    loads = []
    try:
        for view in of_release:
            rows = source_rows(spark, settings, view)
            loads.append(_load(view, rows, of_release=True))
        for view in others:
            rows = source_rows(spark, settings, view)
            loads.append(_load(view, newest_rows(rows, view, moment), held_back=_held_back(rows, moment)))
        for view in emptied:
            key = view.entity_columns[0].name
            loads.append(_load(view, spark.createDataFrame([], f"{key} string"), is_emptied=True))
        yield loads
    finally:
        for load in loads:
            load.keys.unpersist()


def newest_rows(rows: DataFrame, view: FeatureView, moment: datetime, *, with_time: bool = False) -> DataFrame:
    """Return the newest row of each key of a view up to a moment: the key and the features, and perhaps their time."""
    key, past = view.entity_columns[0].name, rows.where(F.col("event_timestamp") <= moment_literal(moment))
    names = [feature.name for feature in view.features] + (["event_timestamp"] if with_time else [])
    latest = F.max_by(F.struct(*names), "event_timestamp").alias("latest")
    return past.groupBy(key).agg(latest).select(key, "latest.*")


def _load(view: FeatureView, rows: DataFrame, **facts: Any) -> ViewLoad:
    keys = keys_of(rows, view).persist()
    return ViewLoad(view, rows, keys, keys.count(), **facts)


def _held_back(rows: DataFrame, moment: datetime) -> HeldBack | None:
    future = rows.where(F.col("event_timestamp") > moment_literal(moment))
    count, latest = only_row(future, F.count("*"), F.unix_micros(F.max("event_timestamp")))
    return HeldBack(count, datetime.fromtimestamp(latest / 1_000_000, UTC)) if count else None


def moment_literal(moment: datetime) -> Column:
    """Return a moment for Spark, exact to the microsecond in any time zone of the session."""
    seconds = round(moment.replace(microsecond=0).timestamp())
    return F.timestamp_micros(F.lit(seconds * 1_000_000 + moment.microsecond).cast("bigint"))
