"""Small Feast repos over Parquet files that a given engine loads, and the bytes that the online store then holds."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import FeastType

BULK = "qarm_features.feature_store.bulk_engine.BulkEngine"
STOCK = "spark.engine"
START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
NOON = datetime(2024, 1, 2, 12, 0, 0, 678901)
ITEM = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)


def open_store(folder: Path, online_store: dict, *, engine: str = BULK, **batch_engine) -> FeatureStore:
    """Opens a new Feast repo in a folder.

    Args:
        folder: Empty folder, which is made if it does not exist.
        online_store: Section ``online_store`` of feature_store.yaml.
        engine: Type of the batch engine.
        **batch_engine: Further settings of the batch engine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = RepoConfig(
        project="shop",
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
        online_store=online_store,
        offline_store={"type": "spark"},
        batch_engine={"type": engine, **batch_engine},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    return FeatureStore(config=config)


def parquet_view(rows, path: Path, features: dict[str, FeastType], *, entities=(ITEM,), name="item_view", **source):
    """Writes a DataFrame to Parquet and returns a Feast view of it.

    Args:
        rows: Spark DataFrame with the join keys, the features and ``event_timestamp``.
        path: Folder to write to.
        features: Feast type of each feature.
        entities: Entities of the view. Their join keys are INT64 unless a schema says otherwise.
        name: Name of the view.
        **source: Further arguments of the source.
    """
    rows.write.mode("overwrite").parquet(str(path))
    batch = SparkSource(name=name, path=str(path), file_format="parquet", timestamp_field="event_timestamp", **source)
    fields = [Field(name=feature, dtype=dtype) for feature, dtype in features.items()]
    return FeatureView(name=name, entities=list(entities), ttl=timedelta(0), schema=fields, source=batch)


def load(store: FeatureStore, view: FeatureView, *, entities=(ITEM,), start=START, end=END) -> None:
    """Applies a view and materializes it."""
    store.apply([*entities, view])
    store.materialize(start, end, [view.name])


def sqlite_rows(path: Path, table: str) -> list[tuple]:
    """Returns every row of an online table."""
    with sqlite3.connect(path) as database:
        return database.execute(f'SELECT * FROM "{table}" ORDER BY entity_key, feature_name').fetchall()


def redis_hashes(client) -> dict[bytes, dict[bytes, bytes]]:
    """Returns every hash of a Redis server."""
    return {key: client.hgetall(key) for key in sorted(client.scan_iter())}


def read(store: FeatureStore, *item_ids: int, feature: str = "item_view:rating") -> list:
    """Returns the values that stock Feast serves."""
    rows = store.get_online_features([feature], entity_rows=[{"item_id": item_id} for item_id in item_ids])
    return rows.to_dict()[feature.split(":")[1]]
