"""Quantizers: embeddings (D) in, codes out, each a pyspark.ml ``Estimator`` and ``Model`` in a file of its own.

A new quantizer is one file here and one line in ``_HOME``.
"""

from __future__ import annotations

from importlib import import_module

# Lazy, because Python workers import the plain functions next door and need no pyspark.ml (over a second each).
_HOME = {
    "FiniteScalar": "finite_scalar",
    "FiniteScalarModel": "finite_scalar",
    "NearestItems": "nearest_items",
    "NearestItemsModel": "nearest_items_model",
    "ResidualKMeans": "residual_kmeans",
    "ResidualKMeansModel": "residual_kmeans",
    "ResidualKMeansFiniteScalar": "residual_finite_scalar",
    "ResidualKMeansFiniteScalarModel": "residual_finite_scalar",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    """Imports a quantizer on first use."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
