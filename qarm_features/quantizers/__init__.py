"""Quantizers turn embeddings into codes. Each is a pyspark.ml ``Estimator`` and ``Model`` in a file of its own.

In: a DataFrame with a column of embeddings (D). Out: the same DataFrame with a column of codes.

To add a quantizer, write its file in this folder, and add its names to ``_HOME``, to ``__all__`` and to the imports for
type checkers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qarm_features.quantizers.finite_scalar import FiniteScalar, FiniteScalarModel
    from qarm_features.quantizers.nearest_items import NearestItems
    from qarm_features.quantizers.nearest_items_model import NearestItemsModel
    from qarm_features.quantizers.residual_finite_scalar import (
        ResidualKMeansFiniteScalar,
        ResidualKMeansFiniteScalarModel,
    )
    from qarm_features.quantizers.residual_kmeans import ResidualKMeans, ResidualKMeansModel

# The imports are lazy, because Python workers need only the functions in ``arrays`` and ``passes``, while pyspark.ml takes
# each of them more than a second to import.
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

__all__ = [
    "FiniteScalar",
    "FiniteScalarModel",
    "NearestItems",
    "NearestItemsModel",
    "ResidualKMeans",
    "ResidualKMeansFiniteScalar",
    "ResidualKMeansFiniteScalarModel",
    "ResidualKMeansModel",
]


def __getattr__(name: str) -> Any:
    """Import a quantizer on first use.

    Raises:
        ImportError: pyspark is not installed.
        AttributeError: No quantizer has this name.
    """
    if name in _HOME:
        try:
            module = import_module(f"{__name__}.{_HOME[name]}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in ("pyspark", "scipy", "faiss"):
                raise
            raise ImportError(
                f"{name} needs {error.name}, which is not installed. Install it: pip install 'qarm-features[spark]'"
            ) from error
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
