"""A compute engine that makes ``feast materialize`` fast: executors encode and write rows column by column.

``feature_store.yaml`` names it by ``batch_engine: {type: qarm_features.feature_store.bulk_engine.BulkEngine}``.

In: a view and a time window. Out: the view's latest rows in the online store, in Feast's own layout, so that any Feast client
reads them. Spark reads the rows and chooses the latest as Feast's own Spark engine does. Joins, transformations,
aggregations, filters, offline writes and historical retrieval are those of Feast's engine.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

from feast import FeatureView
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.dag.node import DAGNode
from feast.infra.compute_engines.spark.compute import SparkComputeEngine, SparkComputeEngineConfig
from feast.infra.compute_engines.spark.feature_builder import SparkFeatureBuilder
from feast.infra.compute_engines.spark.job import SparkMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from pydantic import PositiveFloat, PositiveInt
from pyspark.sql import SparkSession

from qarm_features.feature_store.bulk_write.bulk_nodes import BulkWriteNode, LatestRowNode
from qarm_features.feature_store.feast_internals import feast_spark_session
from qarm_features.feature_store.store_errors import clear_store_error

_log = logging.getLogger(__name__)


class BulkEngineConfig(SparkComputeEngineConfig):
    """The section ``batch_engine`` of feature_store.yaml. Feast finds this class by its name."""

    type: str = "qarm_features.feature_store.bulk_engine.BulkEngine"

    retry_seconds: PositiveFloat = 120.0
    """Seconds for which a lost Redis or a locked SQLite file is tried again before the load fails."""

    rows_per_write: PositiveInt = 5000
    """Rows that a task sends at once, if materialization.online_write_batch_size is not set."""


class BulkEngine(SparkComputeEngine):
    """Feast's Spark engine with a faster way of writing.

    Example:
        In ``feature_store.yaml``::

            batch_engine:
              type: qarm_features.feature_store.bulk_engine.BulkEngine
              retry_seconds: 60
    """

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, from_offline_store: bool = False, **kwargs: Any
    ) -> SparkMaterializationJob:
        """Load one view.

        An error is returned as a failed job. Feast raises it and leaves the view's watermark as it was.
        """
        if from_offline_store:
            return super()._materialize_one(registry, task, from_offline_store=True, **kwargs)
        job_id = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        started = time.perf_counter()
        try:
            session = self._get_feature_view_spark_session(task.feature_view)
            plan = _BulkFeatureBuilder(registry=registry, spark_session=session, task=task).build()
            rows = plan.execute(self.get_execution_context(registry, task)).metadata["rows_written"]
        except Exception as error:
            clear = clear_store_error(error, self.repo_config)
            if clear is not None:
                clear.__cause__ = error
                return SparkMaterializationJob(job_id=job_id, status=MaterializationJobStatus.ERROR, error=clear)
            return SparkMaterializationJob(job_id=job_id, status=MaterializationJobStatus.ERROR, error=error)
        seconds = time.perf_counter() - started
        name = task.feature_view.name
        _log.info("%s: %s rows written, %.1f s, %.0f rows/s", name, f"{rows:,}", seconds, rows / seconds)
        return SparkMaterializationJob(job_id=job_id, status=MaterializationJobStatus.SUCCEEDED)

    def _get_feature_view_spark_session(self, feature_view: FeatureView) -> SparkSession:
        """Return the active session, or start one with the ``spark_conf`` of the offline store and of the engine.

        Feast's engine would start it with the settings of ``batch_engine`` alone. The offline store's settings name the
        jars of the table format.
        """
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        section = self.repo_config.batch_engine_config
        options = self._get_feature_view_engine_config(feature_view) if isinstance(section, dict) else {}
        offline_conf = getattr(self.repo_config.offline_store, "spark_conf", None)
        return feast_spark_session({**(offline_conf or {}), **(options.get("spark_conf") or {})})


class _BulkFeatureBuilder(SparkFeatureBuilder):
    """Feast's plan of a view with two of its steps replaced."""

    def build_dedup_node(self, view: FeatureView, input_node: DAGNode) -> LatestRowNode:
        """Add the step that keeps the latest row of each key."""
        node = LatestRowNode(f"{view.name}:dedup", self.get_column_info(view), self.spark_session, inputs=[input_node])
        self.nodes.append(node)
        return node

    def build_output_nodes(self, view: FeatureView, input_node: DAGNode) -> BulkWriteNode:
        """Add the step that writes the rows."""
        node = BulkWriteNode(f"{view.name}:output", self.dag_root.view, inputs=[input_node])
        self.nodes.append(node)
        return node
