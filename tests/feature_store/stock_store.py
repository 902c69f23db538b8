"""A feature store with a release that stock Feast wrote without Spark, for the tests and the benchmark of the readers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import yaml
from feast import FeatureStore, FeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Int32List, Int64List, StringList, Value

from qarm_features.cli.new_project import write_project
from qarm_features.feature_store.views.feature_views import (
    Release,
    entities,
    item_service,
    log_view,
    open_feature_store,
    release_view,
)
from qarm_features.settings.load import load_settings
from qarm_features.storage.tables import ITEM_COUNTERS, USER_BEHAVIOR, USER_IMPRESSIONS


def stock_store(
    folder: Path,
    online_store: dict,
    codes: dict,
    behaviors: dict | None = None,
    *,
    impressions: dict | None = None,
    counters: dict | None = None,
    cache_seconds: int = 600,
) -> FeatureStore:
    """Returns a feature store whose release 0 holds ``codes``; its repo is ``folder / "feature_repo"``.

    Args:
        folder: An empty folder.
        online_store: Section ``online_store`` of ``feature_store.yaml``.
        codes: L codes of each item.
        behaviors: (item IDs, timestamps in seconds) of each user.
        impressions: (item IDs, labels, timestamps, positives, impressions) of each user.
        counters: (positives, impressions) of each item.
        cache_seconds: Seconds for which Feast keeps its snapshot of the registry.
    """
    folder.mkdir(exist_ok=True)
    id_type = "string" if isinstance(next(iter(codes)), str) else "integer"
    (folder / "qarm.yaml").write_text(
        f"items: {{path: a.parquet, item_id_type: {id_type}}}\ninteractions: {{path: b.parquet}}\n"
    )
    write_project(folder)
    repo = folder / "feature_repo"
    config = yaml.safe_load((repo / "feature_store.yaml").read_text())
    config["online_store"] = online_store
    config["registry"]["cache_ttl_seconds"] = cache_seconds
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(config))
    store = open_feature_store(repo)
    settings = load_settings(folder / "qarm.yaml")
    store.apply([*entities(settings), log_view(settings, USER_BEHAVIOR)])
    add_release(store, folder, 0, codes)
    flip(store, folder, 0, codes)
    if behaviors:
        write(store, "user_behavior", behaviors, behavior_values)
    if impressions:
        store.apply([log_view(settings, USER_IMPRESSIONS), log_view(settings, ITEM_COUNTERS)])
        write(store, "user_impressions", impressions, impression_values)
        write(store, "item_counters", counters, counter_values)
    return store


def add_release(store: FeatureStore, folder: Path, version: int, codes: dict) -> FeatureView:
    """Applies and loads the view of a codebook version; the service is not moved."""
    view = release_view(load_settings(folder / "qarm.yaml"), _release(version, codes))
    store.apply([view])
    write(store, view.name, codes, lambda row: code_values(row, version))
    return view


def flip(store: FeatureStore, folder: Path, version: int, codes: dict) -> None:
    """Points the service at a codebook version."""
    store.apply([item_service(release_view(load_settings(folder / "qarm.yaml"), _release(version, codes)))])


def write(store: FeatureStore, view_name: str, rows: dict, values_of) -> None:
    """Writes rows by Feast's own ``online_write_batch``."""
    view = store.get_feature_view(view_name)
    column, now = view.entity_columns[0].name, datetime.now(UTC)
    data = [
        (EntityKey(join_keys=[column], entity_values=[_id_value(key)]), values_of(row), now, None)
        for key, row in rows.items()
    ]
    for start in range(0, len(data), 5000):
        store._get_provider().online_write_batch(store.config, view, data[start : start + 5000], None)


def _release(version: int, codes: dict) -> Release:
    levels = len(next(iter(codes.values())))
    return Release(version, 0, num_levels=levels, codebook_size=4096, delta_version=version, rows=len(codes))


def _id_value(key: int | str) -> Value:
    return Value(string_val=key) if isinstance(key, str) else Value(int64_val=key)


def code_values(codes, version: int) -> dict[str, Value]:
    return {"rq_codes": Value(int32_list_val=Int32List(val=codes)), "codebook_version": Value(int32_val=version)}


def behavior_values(behavior) -> dict[str, Value]:
    items, times = behavior
    return {"behavior_item_ids": _id_list(items), "behavior_timestamps": Value(int64_list_val=Int64List(val=times))}


def impression_values(row) -> dict[str, Value]:
    items, labels, times, positives, impressions = row
    return {
        "impression_item_ids": _id_list(items),
        "impression_labels": Value(int32_list_val=Int32List(val=labels)),
        "impression_timestamps": Value(int64_list_val=Int64List(val=times)),
        "user_positive_count": Value(int64_val=positives),
        "user_impression_count": Value(int64_val=impressions),
    }


def counter_values(row) -> dict[str, Value]:
    return dict(zip(("item_positive_count", "item_impression_count"), (Value(int64_val=count) for count in row)))


def _id_list(items) -> Value:
    strings = bool(items) and isinstance(items[0], str)
    return Value(string_list_val=StringList(val=items)) if strings else Value(int64_list_val=Int64List(val=items))
