"""The numbers of versions that tables and the registry of the feature store know.

In: settings, and a kind of artifact. Out: the largest number in use, so that a version that is made after the folder of
artifacts was lost gets a larger one. Rows, views and keys online of the old number then stay apart from the new ones.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from qarm_features.settings.load import Settings
from qarm_features.storage.known_values import largest, parts
from qarm_features.storage.tables import (
    ITEM_EMBEDDINGS,
    ITEM_NEAREST_ITEMS,
    ITEM_SEMANTIC_IDS,
    PUBLISHED_KEYS,
    TRAINING_ROWS,
)
from qarm_features.storage.warehouse import Warehouse

_log = logging.getLogger(__name__)
_COLUMNS = {
    "encoders": tuple((table, "encoder_version") for table in (ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS, ITEM_NEAREST_ITEMS)),
    "codebooks": tuple((table, "codebook_version") for table in (ITEM_SEMANTIC_IDS, TRAINING_ROWS)),
    "banks": ((ITEM_NEAREST_ITEMS, "bank_version"),),
}
_IN_VIEWS = {"encoders": "__enc", "codebooks": "__cb", "banks": "__bank"}  # parts of the names of views


def largest_in_use(settings: Settings, kind: str) -> int:
    """Returns the largest number of a kind that tables or views of the feature store name; -1 if none does.

    Args:
        settings: Settings of the project.
        kind: Kind of artifact, for example ``codebooks``.
    """
    if kind not in _COLUMNS:
        return -1
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    numbers = [largest(warehouse, table, column) for table, column in _COLUMNS[kind]]
    names = [*parts(warehouse, PUBLISHED_KEYS, "view"), *_registered_views(settings)]
    found = (re.search(rf"{_IN_VIEWS[kind]}(\d+)$", name) for name in names)
    numbers += [int(match[1]) for match in found if match]
    return max((number for number in numbers if number is not None), default=-1)


def _registered_views(settings: Settings) -> Iterable[str]:
    """Returns the names of the views in the registry; none, with a warning, if it cannot be read."""
    if not _has_registry(settings.feature_repo_path):
        return []
    try:
        from qarm_features.feature_store.views.feature_views import open_feature_store

        store = open_feature_store(settings.feature_repo_path)
        return [view.name for view in store.registry.list_feature_views(store.project, allow_cache=False)]
    except Exception as error:  # a fit of hours does not fail because a database is away; the tables know nearly all
        _log.warning(
            "The registry of the feature store cannot be read, so only tables were asked for old numbers: %s", error
        )
        return []


def _has_registry(repo: Path) -> bool:
    """Returns False if nothing was ever registered, which is known without Feast for a registry in a file."""
    file = repo / "feature_store.yaml"
    if not file.is_file():
        return False
    registry = (yaml.safe_load(file.read_text()) or {}).get("registry")
    path = registry.get("path") if isinstance(registry, dict) else registry
    if not isinstance(path, str):
        return False
    return not path.startswith("sqlite:///") or (repo / path.removeprefix("sqlite:///")).is_file()
