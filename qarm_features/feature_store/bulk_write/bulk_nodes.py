"""The two steps of Feast's Spark plan that the bulk engine replaces: the latest row of each key, and the write.

In: a Spark DataFrame of a view. Out: rows in the online store. Spark's tasks write the rows; the driver receives one number
per task.
"""

from __future__ import annotations

import copy
import functools
import os

from feast import FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.common.serde import SerializedArtifacts
from feast.infra.compute_engines.dag.context import ExecutionContext
from feast.infra.compute_engines.dag.model import DAGFormat
from feast.infra.compute_engines.dag.value import DAGValue
from feast.infra.compute_engines.spark.nodes import SparkDedupNode, SparkWriteNode
from feast.stream_feature_view import StreamFeatureView
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.feature_store.bulk_write.encoded_rows import OnlineView
from qarm_features.feature_store.bulk_write.write_rows import WriterTarget, write_rows
from qarm_features.feature_store.feast_internals import sqlite_path, stored_view_name, vector_field


class LatestRowNode(SparkDedupNode):
    """Keeps the row with the latest event time of each key. Of rows with equal event times, the one created last.

    A view without keys keeps one row.
    """

    def execute(self, context: ExecutionContext) -> DAGValue:
        """Return the latest rows of the view."""
        rows: DataFrame = self.get_single_input_value(context).data
        info = self.column_info
        times = [name for name in (info.timestamp_column, info.created_timestamp_column) if name]
        newest = [F.col(name).desc() for name in times]
        if info.join_keys_columns:
            rank = F.row_number().over(Window.partitionBy(*info.join_keys_columns).orderBy(*newest))
            latest = rows.withColumn("_rank", rank).where("_rank = 1").drop("_rank")
        else:
            latest = rows.orderBy(*newest).limit(1)
        return DAGValue(data=latest, format=DAGFormat.SPARK, metadata={"deduped": True})


class BulkWriteNode(SparkWriteNode):
    """Writes a view's rows to the online store from Spark's tasks, and to the offline store as Feast does."""

    def execute(self, context: ExecutionContext) -> DAGValue:
        """Write the rows and return them, with the number of rows written in ``metadata["rows_written"]``."""
        value = self.get_single_input_value(context)
        is_online = self.feature_view.online
        rows_written = write_online(self.feature_view, value.data, context.repo_config) if is_online else 0
        if self.feature_view.offline:
            view = copy.copy(self.feature_view)
            view.online = False
            SparkWriteNode(self.name, view, inputs=self.inputs).execute(context)
        return DAGValue(data=value.data, format=DAGFormat.SPARK, metadata={"rows_written": rows_written})


def write_online(view: FeatureView, rows: DataFrame, config: RepoConfig) -> int:
    """Write rows of a view to the online store from Spark's tasks, and return their number.

    Args:
        view: View of the rows.
        rows: One row of each key, with the columns of the view.
        config: Configuration of the feature repo, with ``BulkEngineConfig`` as its ``batch_engine``.

    Raises:
        ValueError: The rows lack a column of the view.
    """
    artifacts = SerializedArtifacts.serialize(feature_view=plain_view(view), repo_config=config)
    feast_view = artifacts.unserialize()[0]  # the view that executors of Feast's own engine write with
    stored = online_view(feast_view, config)
    if stored.keys == ((DUMMY_ENTITY_ID, "STRING"),) and DUMMY_ENTITY_ID not in rows.columns:
        rows = rows.withColumn(DUMMY_ENTITY_ID, F.lit(DUMMY_ENTITY_VAL))
    missing = [name for name in stored.columns if name not in rows.columns]
    if missing:
        raise ValueError(
            f"The source of {stored.name} lacks the columns {', '.join(missing)}. Present: {', '.join(rows.columns)}. "
            "Correct the view's source or transformation."
        )
    engine = config.batch_engine
    rows = rows.select(*stored.columns)
    if engine.partitions:
        rows = rows.repartition(engine.partitions)
    write = functools.partial(
        write_rows,
        target=writer_target(stored, feast_view, config, artifacts),
        name=stored.name,
        rows_per_write=config.materialization_config.online_write_batch_size or engine.rows_per_write,
    )
    (total,) = rows.mapInArrow(write, "rows long").agg(F.sum("rows")).collect()
    return total[0] or 0


def plain_view(view: FeatureView) -> FeatureView:
    """Return a view that executors can read.

    Feast deserializes every view on executors as a ``FeatureView``, which fails for a ``StreamFeatureView``.
    """
    if not isinstance(view, StreamFeatureView):
        return view
    plain = FeatureView(name=view.name, source=view.batch_source, ttl=view.ttl, online=view.online, tags=view.tags)
    for name in ("entities", "entity_columns", "features", "current_version_number"):
        setattr(plain, name, getattr(view, name, None))
    return plain


def online_view(view: FeatureView, config: RepoConfig) -> OnlineView:
    """Return the facts about a Feast view that executors need."""
    return OnlineView(
        project=config.project,
        name=stored_view_name(config, view),
        keys=tuple((entity.name, entity.dtype.to_value_type().name) for entity in view.entity_columns),
        features=tuple((feature.name, feature.dtype.to_value_type().name) for feature in view.features),
        timestamp_field=view.batch_source.timestamp_field,
        created_timestamp_field=view.batch_source.created_timestamp_column or None,
        key_version=config.entity_key_serialization_version,
    )


def writer_target(
    view: OnlineView, feast_view: FeatureView, config: RepoConfig, artifacts: SerializedArtifacts
) -> WriterTarget:
    """Return the target that opens a writer on executors: our own for Redis and SQLite, else the store's.

    Stores write vector indexes, and the numbers that some keep beside values, in ways of their own. Such views and stores
    are left to Feast too.

    Args:
        view: Facts about the view for executors.
        feast_view: The view as Feast sends it to executors.
        config: Configuration of the feature repo, with ``BulkEngineConfig`` as its ``batch_engine``.
        artifacts: The view and the configuration, serialized for executors.
    """
    store, patience = config.online_store, config.batch_engine.retry_seconds
    vector = vector_field(feast_view)
    has_index = vector is not None and vector.vector_index
    kind = f"{type(store).__module__}.{type(store).__name__}"
    if kind == "feast.infra.online_stores.redis.RedisOnlineStoreConfig" and not has_index:
        from qarm_features.feature_store.bulk_write.redis import RedisTarget

        return RedisTarget.of(view, store, patience)
    extras = ("vector_enabled", "enable_openai_compatible_store")
    has_extras = any(getattr(store, name, False) for name in extras)
    if kind == "feast.infra.online_stores.sqlite.SqliteOnlineStoreConfig" and not has_extras:
        from qarm_features.feature_store.bulk_write.sqlite import SqliteTarget

        return SqliteTarget(view, os.path.abspath(sqlite_path(config)), patience)
    from qarm_features.feature_store.bulk_write.any_store import StoreTarget

    return StoreTarget(artifacts)
