"""Semantic IDs in Feast: views, releases and readers.

In: tables of semantic IDs and behavior, and ``feature_store.yaml``. Out: published releases, and readers that return torch
tensors. Names are imported on first use, so that a serving host loads no Spark session and no publishing code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qarm_features.feature_store.missing_packages import naming_the_extra

if TYPE_CHECKING:
    from qarm_features.feature_store.publishing.releases import publish_release
    from qarm_features.feature_store.publishing.repo_definitions import definitions
    from qarm_features.feature_store.reading.reader import AsyncSemanticIDReader, SemanticIDReader
    from qarm_features.feature_store.reading.vector_reader import VectorReader

_HOME = {
    "SemanticIDReader": "reading.reader",
    "AsyncSemanticIDReader": "reading.reader",
    "VectorReader": "reading.vector_reader",
    "publish_release": "publishing.releases",
    "definitions": "publishing.repo_definitions",
}

__all__ = ["AsyncSemanticIDReader", "SemanticIDReader", "VectorReader", "definitions", "publish_release"]


def __getattr__(name: str) -> Any:
    """Import the module that holds ``name``."""
    if name in _HOME:
        with naming_the_extra():
            return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
