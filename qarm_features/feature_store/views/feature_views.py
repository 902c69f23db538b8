"""Feast's view of our tables: entities, one immutable view per codebook version, the service that readers ask for.

In: settings, and the releases published so far. Out: Feast objects whose schemas are derived from ``tables.py``.
A view of a release reads one Delta version and one codebook version, so it can never show another's codes.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import feast.infra.offline_stores.contrib.spark_offline_store.spark  # noqa: F401
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.repo_config import RepoConfig, load_repo_config
from feast.table_format import DeltaFormat
from feast.types import Array, Int32, Int64, String

from qarm_features.settings.load import Settings
from qarm_features.settings.sections import IdType
from qarm_features.storage.tables import (
    ITEM_COUNTERS,
    ITEM_SEMANTIC_IDS,
    USER_BEHAVIOR,
    USER_IMPRESSIONS,
    Column,
    Table,
)
from qarm_features.storage.warehouse import Warehouse

# Feast's Spark store warns on every use that it is experimental; our tests pin its behavior. Its module is imported
# above because importing it turns such warnings on again.
warnings.filterwarnings("ignore", message="The spark (data source API|offline store) is an experimental feature")

ITEM_SERVICE = "item_semantic_id"
USER_VIEW = "user_behavior"
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
    """What a published codebook version was made from; stored beside the artifacts as ``cb<n>.json``."""

    codebook_version: int
    encoder_version: int
    num_levels: int
    codebook_size: int
    delta_version: int
    rows: int

    @property
    def view_name(self) -> str:
        """Name of the release's view; a model that trained on this codebook version pins it."""
        return f"{ITEM_SERVICE}__cb{self.codebook_version}"


def open_feature_store(repo_path: str | Path) -> FeatureStore:
    """Opens a feature repo from any working directory.

    Raises:
        ValueError: There is no ``feature_store.yaml``, a variable that it names is not set, or its registry is a file:
            readers of a file registry see it half-written while a release is flipped.
    """
    folder = Path(repo_path).resolve()
    if not (folder / "feature_store.yaml").is_file():
        raise ValueError(f"feature_repo is {repo_path}, must be a folder with feature_store.yaml. Run: qarm init DIR")
    logging.getLogger("feast").setLevel(logging.WARNING)
    _require_variables(folder / "feature_store.yaml")
    config: RepoConfig = load_repo_config(folder, folder / "feature_store.yaml")
    registry = config.registry
    if registry.registry_type == "file":
        raise ValueError("registry_type in feature_store.yaml is file, must be sql. A file registry is not atomic.")
    if registry.path.startswith(_SQLITE) and not registry.path.startswith(_SQLITE + "/"):
        registry.path = f"{_SQLITE}{folder / registry.path.removeprefix(_SQLITE)}"
    return FeatureStore(config=config)


def _require_variables(path: Path) -> None:
    """Feast leaves ``${NAME}`` as it stands where there is no such variable, and fails later on what that is not."""
    lines = [line.split("#")[0] for line in path.read_text().splitlines()]
    for name in re.findall(r"\$\{(\w+)\}", "\n".join(lines)):
        if name not in os.environ:
            raise ValueError(f"{name} of feature_store.yaml is not set, must be. Run: export {name}=...")


def entities(settings: Settings) -> tuple[Entity, Entity]:
    """Returns the entities ``item`` and ``user`` with the ID types of the settings."""
    return (
        _entity("item", "item_id", settings.items.item_id_type),
        _entity("user", "user_id", settings.interactions.user_id_type),
    )


def release_view(settings: Settings, release: Release) -> FeatureView:
    """Returns the immutable view of one codebook version, pinned to the Delta version that was verified."""
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    query = (
        f"SELECT item_id, rq_codes, codebook_version, event_timestamp FROM delta.`{warehouse.path(ITEM_SEMANTIC_IDS)}` "
        f"VERSION AS OF {release.delta_version} WHERE codebook_version = {release.codebook_version}"
    )
    source = SparkSource(name=release.view_name, query=query, timestamp_field="event_timestamp")
    tags = {name: str(value) for name, value in asdict(release).items()}
    return _view(release.view_name, ITEM_SEMANTIC_IDS, entities(settings)[0], source, warehouse, tags)


def log_views(settings: Settings) -> list[FeatureView]:
    """Returns the views of what the click log says, each named as its table, of those tables that are there."""
    kept = settings.behavior.impression_length > 0
    tables = (USER_BEHAVIOR, USER_IMPRESSIONS, ITEM_COUNTERS) if kept else (USER_BEHAVIOR,)
    return [
        log_view(settings, table)
        for table in tables
        if Warehouse(settings.warehouse_path, **settings.id_types).exists(table)
    ]


def log_view(settings: Settings, table: Table) -> FeatureView:
    """Returns the view of one table that says what the click log says, named as the table."""
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
    """Returns the service that points at a release; applying it is the flip. Served names stay the same."""
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
    fields = [table.column(entity.join_key), *[table.column(served) for served in SERVED[table]]]
    schema = [Field(name=c.name, dtype=_feast_type(c, warehouse), description=c.doc) for c in fields]
    return FeatureView(
        name=name, entities=[entity], ttl=timedelta(0), schema=schema, source=source, online=True, tags=tags
    )


def _feast_type(column: Column, warehouse: Warehouse):
    spark_type = warehouse.spark_type(column)
    if spark_type.startswith("array<"):
        return Array(_FEAST_TYPE[spark_type[len("array<") : -1]])
    return _FEAST_TYPE[spark_type]
