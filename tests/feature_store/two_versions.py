"""A project whose table holds codebook versions 0 and 1 of the same three items, before anything is published."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import yaml
from pyspark.sql import functions as F

from qarm_features.feature_store.views.feature_views import Release
from qarm_features.jobs.context import JobContext
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, USER_BEHAVIOR
from tests.toy_catalog import open_project, write_toy_project


def write_two_versions(
    folder: Path, spark, *, registry: str | None = None, online_store: dict | None = None
) -> JobContext:
    """Writes the project and its tables. Item i has the codes (codebook version, i).

    Args:
        folder: Empty folder for the project.
        spark: Session of the test suite.
        registry: Path of the registry; by default a SQLite file.
        online_store: Section of feature_store.yaml; by default a SQLite file.
    """
    context = open_project(write_toy_project(folder), spark)
    store = folder / "feature_repo" / "feature_store.yaml"
    config = yaml.safe_load(store.read_text())
    config["registry"]["cache_ttl_seconds"] = 1
    config["registry"]["path"] = registry or config["registry"]["path"]
    config["online_store"] = online_store or config["online_store"]
    store.write_text(yaml.safe_dump(config))
    rows = spark.createDataFrame(
        [(item, [version, item], version) for version in (0, 1) for item in (1, 2, 3)],
        "item_id long, rq_codes array<int>, codebook_version int",
    ).selectExpr("*", "0 AS encoder_version", "timestamp_seconds(0) AS event_timestamp")
    context.warehouse.append(ITEM_SEMANTIC_IDS, rows)
    behavior = spark.createDataFrame(
        [(7, [1, 3], [10, 20])], "user_id long, behavior_item_ids array<long>, behavior_timestamps array<long>"
    )
    context.warehouse.overwrite(USER_BEHAVIOR, behavior.withColumn("event_timestamp", F.timestamp_seconds(F.lit(21))))
    return context


def release(version: int, **changes) -> Release:
    """Returns the release of a codebook version of that project."""
    whole = Release(codebook_version=version, encoder_version=0, num_levels=2, codebook_size=4, delta_version=0, rows=3)
    return dataclasses.replace(whole, **changes)
