"""The common methods of all residual quantizers, as types.

In: ``ResidualKMeansModel``, ``ResidualKMeansFiniteScalarModel`` and their estimators. Out: the types ``RQModel`` and
``RQEstimator``. Code that uses only these types works with every residual quantizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame

from qarm_features.quantizers.arrays.scalar_rounding import ScalarRounding


class LevelMeans(Protocol):
    """Computes means of residuals over all items, while the codes of the items are held.

    The residual of an item in a level is its embedding less the centroids of all other levels.
    """

    def centroids(self, codebooks: np.ndarray, level: int) -> np.ndarray:
        """Return the codebooks (L, K, D) float32 with the means of one level as its centroids."""
        ...

    def scalars(self, codebooks: np.ndarray, rounding: ScalarRounding) -> ScalarRounding:
        """Return the rounding of the last level with the means as its scalars."""
        ...


class RQModel(Protocol):
    """A fitted residual quantizer: from embeddings (D) to L codes."""

    @property
    def codebooks(self) -> np.ndarray:
        """What every code stands for, (L, K, D) float32; smaller levels end in rows of NaN."""
        ...

    @property
    def level_sizes(self) -> list[int]:
        """Number of codes K of each level."""
        ...

    @property
    def permutable_sizes(self) -> list[int]:
        """Number of codes K of each of the first levels whose codes ``permuted`` can relabel."""
        ...

    def level_figures(self) -> list[dict[str, Any]]:
        """Return the figures of the fit, one dict per level.

        A level without an entry ``sse`` was fitted without counting its error. The list is empty for a model that was
        not fitted here.
        """
        ...

    def permuted(self, labels: Sequence[np.ndarray]) -> Self:
        """Return the model in which code c of level l is called ``labels[l][c]``, for the first ``len(labels)`` levels."""
        ...

    def renewed(self, level: int, means: LevelMeans) -> Self:
        """Return the model in which one level is the best for codes that are held."""
        ...

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return named arrays that hold all of the model, for safetensors and Parquet."""
        ...

    def encoder(self) -> Callable[[pa.Array], pa.Array]:
        """Return a function from B embeddings to B lists of L codes, for Spark's workers."""
        ...

    def embeddings(self, dataset: DataFrame) -> Column:
        """Return the input column of a DataFrame as an array."""
        ...

    def getOutputCol(self) -> str:
        """Return the name of the column of codes."""
        ...

    def transform(self, dataset: DataFrame) -> DataFrame:
        """Add the column of codes."""
        ...


class RQEstimator(Protocol):
    """An estimator that fits an ``RQModel``."""

    def fit(self, dataset: DataFrame) -> Any:
        """Return an ``RQModel`` that is fitted without a start."""
        ...

    def fit_from(self, dataset: DataFrame, start: Any, *, max_iter: int | None = None) -> Any:
        """Return an ``RQModel`` whose fit starts from a fitted model of the same estimator.

        Args:
            dataset: Rows with the column of embeddings (D).
            start: Fitted model.
            max_iter: Maximal number of Lloyd steps per level; None takes ``maxIter``.
        """
        ...

    def weight_name(self) -> str | None:
        """Return the name of the column of weights, or None if all rows count once."""
        ...
