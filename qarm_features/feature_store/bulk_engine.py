"""``feast materialize`` made fast: Spark reads and chooses rows as Feast's own engine does, executors write them in columns.

Named in feature_store.yaml as ``batch_engine: {type: qarm_features.feature_store.bulk_engine.BulkEngine}``. In: a view and
a time window. Out: its latest rows in the online store, in Feast's own layout, so that any Feast client reads them. Joins,
transformations, aggregations, filters, offline writes and historical retrieval stay those of Feast's Spark engine.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.spark.compute import SparkComputeEngine, SparkComputeEngineConfig
from feast.infra.compute_engines.spark.feature_builder import SparkFeatureBuilder
from feast.infra.compute_engines.spark.job import SparkMaterializationJob
from feast.infra.compute_engines.spark.utils import get_or_create_new_spark_session
from feast.infra.registry.base_registry import BaseRegistry
from pydantic import PositiveFloat, PositiveInt
from pyspark.sql import SparkSession

from qarm_features.feature_store.bulk_write.bulk_nodes import BulkWriteNode, LatestRowNode

_log = logging.getLogger(__name__)


class BulkEngineConfig(SparkComputeEngineConfig):
    """The section ``batch_engine``; Feast finds it by its name."""

    type: str = "qarm_features.feature_store.bulk_engine.BulkEngine"

    retry_seconds: PositiveFloat = 120.0
    """For how long a lost Redis or a locked SQLite file is tried again before the load fails."""

    rows_per_write: PositiveInt = 5000
    """Rows a task sends at once, where materialization.online_write_batch_size says nothing."""


class BulkEngine(SparkComputeEngine):
    """Feast's Spark engine with another way of writing."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, from_offline_store: bool = False, **kwargs: Any
    ) -> SparkMaterializationJob:
        """Loads one view; an error is handed to Feast, which raises it and leaves the view's watermark where it was."""
        if from_offline_store:
            return super()._materialize_one(registry, task, from_offline_store=True, **kwargs)
        job_id = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        started = time.perf_counter()
        try:
            session = self._get_feature_view_spark_session(task.feature_view)
            plan = _BulkFeatureBuilder(registry=registry, spark_session=session, task=task).build()
            rows = plan.execute(self.get_execution_context(registry, task)).metadata["rows_written"]
        except Exception as error:
            return SparkMaterializationJob(job_id=job_id, status=MaterializationJobStatus.ERROR, error=error)
        seconds = time.perf_counter() - started
        name = task.feature_view.name
        _log.info("%s: %s rows written, %.1f s, %.0f rows/s", name, f"{rows:,}", seconds, rows / seconds)
        return SparkMaterializationJob(job_id=job_id, status=MaterializationJobStatus.SUCCEEDED)

    def _get_feature_view_spark_session(self, feature_view) -> SparkSession:
        """Returns the active session, or starts one as ``offline_store.spark_conf`` and the engine's own say.

        Feast's engine starts it from the section ``batch_engine`` as a whole and so without the offline store's settings,
        which name the table format's jars.
        """
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        section = self.repo_config.batch_engine_config
        own = self._get_feature_view_engine_config(feature_view) if isinstance(section, dict) else {}
        offline = getattr(self.repo_config.offline_store, "spark_conf", None)
        return get_or_create_new_spark_session({**(offline or {}), **(own.get("spark_conf") or {})})


class _BulkFeatureBuilder(SparkFeatureBuilder):
    """Feast's plan of a view with two of its steps replaced."""

    def build_dedup_node(self, view, input_node):
        node = LatestRowNode(f"{view.name}:dedup", self.get_column_info(view), self.spark_session, inputs=[input_node])
        self.nodes.append(node)
        return node

    def build_output_nodes(self, view, input_node):
        node = BulkWriteNode(f"{view.name}:output", self.dag_root.view, inputs=[input_node])
        self.nodes.append(node)
        return node
