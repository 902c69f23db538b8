"""Features are joined to rows point in time, with the result of Feast's ``get_historical_features``, by one sort per key.

In: rows with ``event_timestamp`` and join keys, and names of features of Feast views with a Spark source. Out: the rows
with the features of the latest view row at or before their time. A feature is null where there is no such view row, or
where it is older than the ttl of the view. ::

    user_id  event_timestamp      user_id  length  event_timestamp      user_id  event_timestamp  length
    7        12:00                7        1       10:00            ->  7        12:00            2
    7        09:00                7        2       12:00                7        09:00            null

Rows and view rows of a key are sorted together by time, and each row takes the last view row above it. This is linear in
both, while a range join visits every pair. Views with the same join keys share the sort. A view whose rows all have one
timestamp, such as a view of codes, is joined by its key alone. Where view rows of a key tie in time, the one with the later
``created_timestamp`` is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import and_

from feast import FeatureStore, FeatureView
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from qarm_features.storage.sql_names import column_of

_TIME, _KIND, _CREATED, _TIE = "__qarm_time__", "__qarm_kind__", "__qarm_created__", "__qarm_tie__"
_ROW, _FOUND = "__qarm_row__", "__qarm_found__"
_VIEW_ROW, _ENTITY_ROW = 0, 1  # a view row of the same moment comes first


def spark_join(store: FeatureStore, rows: DataFrame, features: Sequence[str]) -> DataFrame:
    """Join features to rows in plain Spark.

    Args:
        store: Feature store with the views in its registry. A view is read from its source, at the Delta version that the
            source pins if it pins one.
        rows: Rows with ``event_timestamp`` and the join keys of the views. Further columns are kept.
        features: Names of features, as ``view:feature``.

    Returns:
        The rows, in any order, with a column per feature.

    Raises:
        ValueError: ``rows`` lacks a join key or ``event_timestamp``, or a column or feature has a name of the join itself.
    """
    names: dict[str, list[str]] = {}
    for reference in features:
        view_name, feature = reference.split(":")
        names.setdefault(view_name, []).append(feature)
    views = [_View.read(rows.sparkSession, store.get_feature_view(name), served) for name, served in names.items()]
    missing = sorted({"event_timestamp", *(key for view in views for key in view.keys)} - set(rows.columns))
    if missing:
        raise ValueError(
            f"Rows lack {', '.join(missing)}, which the join with {', '.join(names)} needs. Add the columns to the rows."
        )
    private = [
        name for name in (*rows.columns, *chain.from_iterable(names.values())) if name.lower().startswith("__qarm_")
    ]
    if private:
        raise ValueError(
            f"Rows or features are named {', '.join(private)}, as columns of the join itself. Rename them."
        )
    views_by_keys: dict[tuple[str, ...], list[_View]] = {}
    for view in views:
        if view.moment is None:
            views_by_keys.setdefault(view.keys, []).append(view)
        else:
            rows = _join_by_key(rows, view)
    for keys, same_keys in views_by_keys.items():
        rows = _join_by_time(rows, keys, same_keys)
    return rows


def feast_join(store: FeatureStore, rows: DataFrame, features: Sequence[str]) -> DataFrame:
    """Join features to rows through Feast. Arguments and result are those of ``spark_join``."""
    return store.get_historical_features(rows, list(features)).to_spark_df()


JOINS: dict[str, Callable[[FeatureStore, DataFrame, Sequence[str]], DataFrame]] = {
    "spark": spark_join,
    "feast": feast_join,
}


@dataclass(frozen=True)
class _View:
    """A feature view and its rows.

    Attributes:
        keys: Names of the join keys.
        features: Names of the features.
        ttl: Longest age of a feature in microseconds, 0 for no limit.
        moment: Timestamp of all rows in microseconds since 1970, None where they differ.
        rows: Join keys, the private columns, and the features as the struct ``_FOUND``.
    """

    keys: tuple[str, ...]
    features: tuple[str, ...]
    ttl: int
    moment: int | None
    rows: DataFrame

    @classmethod
    def read(cls, spark: SparkSession, view: FeatureView, features: Sequence[str]) -> _View:
        source, keys = view.batch_source, tuple(column.name for column in view.entity_columns)
        stored = {served: column for column, served in source.field_mapping.items()}
        rows = spark.sql(f"SELECT * FROM {source.get_table_query_string()}")
        time = F.unix_micros(column_of(source.timestamp_field))
        created = column_of(source.created_timestamp_column) if source.created_timestamp_column else F.lit(None)
        columns = {name: column_of(stored.get(name, name)) for name in (*keys, *features)}
        found = F.struct(time.alias(_TIME), *[columns[name].alias(name) for name in features])
        rows = rows.select(
            *[columns[key].alias(key) for key in keys],
            time.alias(_TIME),
            created.cast("timestamp").alias(_CREATED),
            found.alias(_FOUND),
        ).where(reduce(and_, [column_of(key).isNotNull() for key in keys]))
        span = rows.agg(F.min(_TIME).alias("first"), F.max(_TIME).alias("last")).first()
        assert span is not None  # an aggregate without a key has one row
        moment = (span["first"] or 0) if span["first"] == span["last"] else None
        ttl = int(view.ttl.total_seconds()) * 1_000_000 if view.ttl else 0
        # A hash breaks the ties that are left, so that the result does not depend on the partitions.
        return cls(keys, tuple(features), ttl, moment, rows.withColumn(_TIE, F.xxhash64(_FOUND)))

    def columns(self, found: Column) -> list[Column]:
        """Return the features of a view row, null where the view row is later than the row or older than the ttl."""
        age = F.unix_micros("event_timestamp") - found[_TIME]
        is_valid = (age >= 0) & (age <= self.ttl) if self.ttl else age >= 0
        return [F.when(is_valid, found[name]).alias(name) for name in self.features]


def _join_by_key(rows: DataFrame, view: _View) -> DataFrame:
    newest = F.max_by(_FOUND, F.struct(_CREATED, _TIE)).alias(_FOUND)
    joined = rows.join(view.rows.groupBy(*map(column_of, view.keys)).agg(newest), on=list(view.keys), how="left")
    return joined.select(*[column_of(name) for name in rows.columns], *view.columns(F.col(_FOUND)))


def _join_by_time(rows: DataFrame, keys: tuple[str, ...], views: list[_View]) -> DataFrame:
    columns = [column_of(name) for name in rows.columns]
    lanes = [f"{_FOUND}_{number}" for number in range(len(views))]  # a column per view
    key_columns = [column_of(key) for key in keys]
    stream = rows.select(
        *key_columns,
        F.unix_micros("event_timestamp").alias(_TIME),
        F.lit(_ENTITY_ROW).alias(_KIND),
        F.struct(*columns).alias(_ROW),
    )
    for lane, view in zip(lanes, views):
        view_rows = view.rows.withColumnRenamed(_FOUND, lane).withColumn(_KIND, F.lit(_VIEW_ROW))
        stream = stream.unionByName(view_rows, allowMissingColumns=True)
    by_time = Window.partitionBy(*key_columns).orderBy(_TIME, _KIND, F.col(_CREATED).asc_nulls_first(), _TIE)
    so_far = by_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    last = [F.last(lane, ignorenulls=True).over(so_far).alias(lane) for lane in lanes]
    found = stream.select(_KIND, _ROW, *last).where(F.col(_KIND) == _ENTITY_ROW).select(f"{_ROW}.*", *lanes)
    features = [feature for lane, view in zip(lanes, views) for feature in view.columns(F.col(lane))]
    return found.select(*columns, *features)
