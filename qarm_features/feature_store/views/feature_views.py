"""Feast objects for our tables: entities, one immutable view per codebook version, and the service that readers name.

In: settings and a release. Out: Feast objects whose schemas are derived from ``tables.py``. A view of a release reads one
Delta version and one codebook version, so it can never show the codes of another release.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.repo_config import RepoConfig
from feast.table_format import DeltaFormat
from feast.types import Array, FeastType, Int32, Int64, String
from sqlalchemy.exc import DBAPIError

from qarm_features.feature_store.feast_internals import silence_spark_store_warnings
from qarm_features.feature_store.missing_packages import naming_the_extra
from qarm_features.feature_store.registry_errors import REGISTRY_WAIT_SECONDS, naming_the_registry, wait_for_locks
from qarm_features.feature_store.views.repo_config import read_repo_config
from qarm_features.settings.load import Settings
from qarm_features.settings.sources import IdType
from qarm_features.storage.sql_names import files_at
from qarm_features.storage.tables import (
    ITEM_COUNTERS,
    ITEM_SEMANTIC_IDS,
    USER_BEHAVIOR,
    USER_IMPRESSIONS,
    Column,
    Table,
)
from qarm_features.storage.warehouse import Warehouse

silence_spark_store_warnings()

ITEM_SERVICE = "item_semantic_id"
USER_VIEW = "user_behavior"
READER_WAIT_SECONDS = 5.0
_SQLITE = "sqlite:///"
_VALUE_TYPE = {"integer": ValueType.INT64, "string": ValueType.STRING}
_FEAST_TYPE = {"int": Int32, "bigint": Int64, "string": String}
SERVED = {
    ITEM_SEMANTIC_IDS: ("rq_codes", "codebook_version"),
    USER_BEHAVIOR: ("behavior_item_ids", "behavior_timestamps"),
    USER_IMPRESSIONS: (
        "impression_item_ids",
        "impression_labels",
        "impression_timestamps",
        "user_positive_count",
        "user_impression_count",
    ),
    ITEM_COUNTERS: ("item_positive_count", "item_impression_count"),
}


@dataclass(frozen=True)
class Release:
    """The versions and sizes that a published codebook version was made from, saved beside the artifacts as ``cb<n>.json``.

    Attributes:
        codebook_version: Codebook version.
        encoder_version: Encoder version of the embeddings.
        num_levels: L, number of codes of each semantic ID.
        codebook_size: K, number of centroids of each level.
        delta_version: Delta version of ``item_semantic_ids``.
        rows: Number of items with a semantic ID.
        codebook_fingerprint: Fingerprint of the codebooks; None for a release of an older version.
        moved_at: Delta version since which no semantic ID of the release has changed or left, so that what a reader has found
            is still right; None for a release of an older version.
    """

    codebook_version: int
    encoder_version: int
    num_levels: int
    codebook_size: int
    delta_version: int
    rows: int
    codebook_fingerprint: str | None = None
    moved_at: int | None = field(default=None, compare=False)

    @property
    def view_name(self) -> str:
        """Name of the release's view, which a model that was trained on this codebook version reads."""
        return f"{ITEM_SERVICE}__cb{self.codebook_version}"


def open_feature_store(repo_path: str | Path, *, wait_seconds: float = REGISTRY_WAIT_SECONDS) -> FeatureStore:
    """Open a feature repo from any working directory.

    Args:
        repo_path: Folder of ``feature_store.yaml``.
        wait_seconds: Longest time in seconds to wait for a SQLite registry that another process locks.

    Raises:
        RegistryError: The registry stayed locked for longer.
        ValueError: There is no ``feature_store.yaml``, it cannot be read, a variable that it names is not set, or its
            registry is a file. Readers could see a file registry half-written while a release is promoted.
        ImportError: A package that the online store needs is not installed.
    """
    folder = Path(repo_path).resolve()
    if not (folder / "feature_store.yaml").is_file():
        raise ValueError(f"feature_repo is {repo_path}, must be a folder with feature_store.yaml. Run: qarm init DIR")
    logging.getLogger("feast").setLevel(logging.WARNING)
    with naming_the_extra():
        config = read_repo_config(folder)
    registry = config.registry
    if registry.registry_type == "file":
        raise ValueError("registry_type in feature_store.yaml is file, must be sql. A file registry is not atomic.")
    if registry.path.startswith(_SQLITE) and not registry.path.startswith(_SQLITE + "/"):
        registry.path = f"{_SQLITE}{folder / registry.path.removeprefix(_SQLITE)}"
    as_written = registry.sqlalchemy_config_kwargs
    wait_for_locks(registry, wait_seconds)
    with naming_the_extra(), naming_the_registry(config):
        try:
            return _opened(config)
        except DBAPIError as error:
            if "startup parameter" not in str(error):
                raise
            registry.sqlalchemy_config_kwargs = as_written  # a PgBouncer takes no options of a connection
            return _opened(config)


def _opened(config: RepoConfig) -> FeatureStore:
    store = FeatureStore(config=config)
    _ = store.registry  # which opens its database on first use
    return store


def entities(settings: Settings) -> tuple[Entity, Entity]:
    """Return the entities ``item`` and ``user`` with the ID types that the settings name."""
    return (
        _entity("item", "item_id", settings.items.item_id_type),
        _entity("user", "user_id", settings.interactions.user_id_type),
    )


def release_view(settings: Settings, release: Release) -> FeatureView:
    """Return the immutable view of one codebook version, pinned to the Delta version that was verified."""
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    query = (
        "SELECT item_id, rq_codes, codebook_version, event_timestamp "
        f"FROM {files_at(warehouse.path(ITEM_SEMANTIC_IDS))} VERSION AS OF {release.delta_version} "
        f"WHERE codebook_version = {release.codebook_version}"
    )
    source = SparkSource(name=release.view_name, query=query, timestamp_field="event_timestamp")
    tags = {name: str(value) for name, value in asdict(release).items() if value is not None}
    return _view(release.view_name, ITEM_SEMANTIC_IDS, entities(settings)[0], source, warehouse, tags)


def log_views(settings: Settings) -> list[FeatureView]:
    """Return the views of the tables that are derived from the click log and exist. Each view has its table's name."""
    tables = [USER_BEHAVIOR]
    if settings.behavior.impression_length > 0:
        tables += [USER_IMPRESSIONS, ITEM_COUNTERS]
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    return [log_view(settings, table) for table in tables if warehouse.exists(table)]


def log_view(settings: Settings, table: Table) -> FeatureView:
    """Return the view of one table that is derived from the click log. It has the table's name."""
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    source = SparkSource(
        name=table.name,
        path=warehouse.path(table),
        table_format=DeltaFormat(),
        timestamp_field="event_timestamp",
    )
    entity = next(entity for entity in entities(settings) if entity.join_key == table.key[0])
    return _view(table.name, table, entity, source, warehouse, {})


def item_service(view: FeatureView) -> FeatureService:
    """Return the service that names a release. Applying it points readers at the release under unchanged feature names."""
    return FeatureService(
        name=ITEM_SERVICE,
        features=[view.with_name(ITEM_SERVICE)],
        tags={"codebook_version": view.tags["codebook_version"]},
    )


def _entity(name: str, join_key: str, id_type: IdType) -> Entity:
    return Entity(name=name, join_keys=[join_key], value_type=_VALUE_TYPE[id_type])


def _view(
    name: str, table: Table, entity: Entity, source: SparkSource, warehouse: Warehouse, tags: dict[str, str]
) -> FeatureView:
    columns = [table.column(entity.join_key), *[table.column(name) for name in SERVED[table]]]
    schema = [
        Field(name=column.name, dtype=_feast_type(column, warehouse), description=column.doc) for column in columns
    ]
    return FeatureView(
        name=name, entities=[entity], ttl=timedelta(0), schema=schema, source=source, online=True, tags=tags
    )


def _feast_type(column: Column, warehouse: Warehouse) -> FeastType:
    spark_type = warehouse.spark_type(column)
    if spark_type.startswith("array<"):
        return Array(_FEAST_TYPE[spark_type[len("array<") : -1]])
    return _FEAST_TYPE[spark_type]
