"""Semantic IDs in Feast: views, releases and the reader. Names are loaded on first use: a reader needs no Spark."""

_HOME = {
    "SemanticIDReader": "reading.reader",
    "AsyncSemanticIDReader": "reading.reader",
    "VectorReader": "reading.vector_reader",
    "publish_release": "publishing.releases",
    "definitions": "publishing.releases",
}

__all__ = ["AsyncSemanticIDReader", "SemanticIDReader", "VectorReader", "definitions", "publish_release"]


def __getattr__(name: str):
    """Imports the module that holds ``name``."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
