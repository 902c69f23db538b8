"""The params of ``ResidualKMeans`` and its model, in camelCase with setters and getters, as pyspark.ml names params.

In: values that a user sets. Out: checked values, and the columns of a DataFrame that the params name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol, HasMaxIter, HasOutputCol, HasSeed, HasTol, HasWeightCol
from pyspark.sql import Column, DataFrame
from pyspark.sql.types import ArrayType, DoubleType, FloatType

from qarm_features.quantizers.arrays.torch_products import DEVICES
from qarm_features.storage.sql_names import column_of, tells_case_apart

MAX_ITER = 20  # the default, which is also that of codebooks.max_iter
INIT_MODES = ("k-means++", "k-means||", "random")
ZERO_VECTORS = ("error", "keep")


class WeightFacts(Protocol):
    """What one pass over the rows found about their weights."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def bad_weights(self) -> int:
        """Number of weights that are null, negative or not finite."""
        ...

    @property
    def weight_steps(self) -> int:
        """Exact sum of the other weights, in the steps of ``weights.weight_facts``."""
        ...


class EmbeddingColumns(HasInputCol, HasOutputCol):
    """The columns that the estimator and the model share."""

    _input_kwargs: dict[str, Any]  # the arguments of the last call, which pyspark's keyword_only stores

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(inputCol="embedding", outputCol="rq_codes")

    def setInputCol(self, value: str) -> Self:
        """Set the column of embeddings (D)."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> Self:
        """Set the column of codes that the model adds."""
        return self._set(outputCol=value)

    def check_new_columns(self, dataset: DataFrame, *params: str) -> None:
        """Refuse a DataFrame that already has a column which the model adds.

        Args:
            dataset: DataFrame to transform.
            params: Names of the params that hold the names of the added columns.

        Raises:
            ValueError: The DataFrame has such a column.
        """
        alike: Callable[[str], str] = str if tells_case_apart(dataset.sparkSession) else str.lower
        taken = {alike(column) for column in dataset.columns}
        for param in params:
            if alike(name := self.getOrDefault(param)) in taken:
                raise ValueError(f"{param} is {name}, must be a new column. Drop it or name another one.")

    def embeddings(self, dataset: DataFrame) -> Column:
        """Return the input column as an array.

        Raises:
            ValueError: The column is missing, or is neither an array of floats nor a vector.
        """
        name = self.getInputCol()
        if name not in dataset.columns:
            present = ", ".join(dataset.columns)
            raise ValueError(f"inputCol is {name}, must be a column of the DataFrame. Present: {present}.")
        kind, column = dataset.schema[name].dataType, column_of(name)
        if isinstance(kind, VectorUDT):
            return vector_to_array(column, "float32").alias("embedding")
        if isinstance(kind, ArrayType) and isinstance(kind.elementType, (FloatType, DoubleType)):
            return column.alias("embedding")
        raise ValueError(
            f"inputCol {name} is {kind.simpleString()}, must be array<float>, array<double> or a vector. Cast it."
        )


class WeightedColumns(EmbeddingColumns, HasWeightCol):
    """The columns that an estimator reads: embeddings and, if ``weightCol`` is set, weights."""

    def setWeightCol(self, value: str) -> Self:
        """Set the column of weights."""
        return self._set(weightCol=value)

    def weight_name(self) -> str | None:
        """Return ``weightCol``, or None if it is not set."""
        return self.getWeightCol() if self.isDefined(self.weightCol) else None

    def columns(self, dataset: DataFrame) -> list[Column]:
        """Return the columns that a fit reads: embeddings and, if ``weightCol`` is set, weights.

        Raises:
            ValueError: A column is missing, or the embeddings have another type.
        """
        columns, name = [self.embeddings(dataset)], self.weight_name()
        if name is not None:
            if name not in dataset.columns:
                present = ", ".join(dataset.columns)
                raise ValueError(f"weightCol is {name}, must be a column of the DataFrame. Present: {present}.")
            columns.append(column_of(name).cast("double").alias("weight"))
        return columns

    def check_weights(self, facts: WeightFacts) -> None:
        """Refuse weights that cannot be used.

        Args:
            facts: Number of rows and what is wrong with their weights.

        Raises:
            ValueError: A weight is null, negative or not finite, or all weights are 0.
        """
        if facts.bad_weights:
            bad = f"{self.weight_name()} is null, negative or not finite in {facts.bad_weights} of {facts.rows} rows"
            raise ValueError(f"{bad}, must be at least 0. Fill these weights.")
        if self.weight_name() is not None and facts.weight_steps == 0:
            raise ValueError(f"{self.weight_name()} is 0 in all {facts.rows} rows, must be above 0 in some.")


class HasDevice(Params):
    """The device of the matrix products."""

    device = Param(Params._dummy(), "device", f"One of {', '.join(DEVICES)}.", TypeConverters.toString)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(device="cpu")

    def setDevice(self, value: str) -> Self:
        """Set the device of the matrix products."""
        return self._set(device=value)

    def checked_device(self) -> str:
        """Return the name of the device of the matrix products.

        Raises:
            ValueError: No device has this name.
        """
        if (name := self.getOrDefault(self.device)) not in DEVICES:
            raise ValueError(f"device is {name}, must be one of {', '.join(DEVICES)}.")
        return name


class ResidualKMeansParams(WeightedColumns, HasDevice, HasMaxIter, HasTol, HasSeed):
    """The params of the estimator ``ResidualKMeans``, which explains them.

    ``setParams`` sets those that have no setter of their own.
    """

    numLevels = Param(Params._dummy(), "numLevels", "Number of levels L, at least 1.", TypeConverters.toInt)
    codebookSize = Param(
        Params._dummy(), "codebookSize", "Number of centroids K of a level, at least 1.", TypeConverters.toInt
    )
    codebookSizes = Param(
        Params._dummy(), "codebookSizes", "Number of centroids K of each level.", TypeConverters.toListInt
    )
    initialCodebooks = Param(
        Params._dummy(), "initialCodebooks", "Codebooks (L, K, D) to start from.", partial(np.asarray, dtype=np.float32)
    )
    initMode = Param(Params._dummy(), "initMode", f"One of {', '.join(INIT_MODES)}.", TypeConverters.toString)
    warmupIter = Param(Params._dummy(), "warmupIter", "Lloyd steps on a sample before all rows.", TypeConverters.toInt)
    errorTol = Param(Params._dummy(), "errorTol", "Least relative fall of the error in a step.", TypeConverters.toFloat)
    spherical = Param(Params._dummy(), "spherical", "Keep centroids of level 0 at norm 1.", TypeConverters.toBoolean)
    maxLoad = Param(
        Params._dummy(), "maxLoad", "Rows, relative to the mean, that split a cluster.", TypeConverters.toFloat
    )
    capacity = Param(
        Params._dummy(), "capacity", "Rows, relative to the mean, of a code at most.", TypeConverters.toFloat
    )
    zeroVectors = Param(
        Params._dummy(), "zeroVectors", "Treatment of zero rows: error or keep.", TypeConverters.toString
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(numLevels=3, codebookSize=256, maxIter=MAX_ITER, tol=1e-4, seed=0, errorTol=0.0, warmupIter=0)
        self._setDefault(initMode="k-means++", spherical=False, maxLoad=0.0, capacity=0.0, zeroVectors="error")

    def setNumLevels(self, value: int) -> Self:
        """Set the number of levels L."""
        return self._set(numLevels=value)

    def setCodebookSize(self, value: int) -> Self:
        """Set the number of centroids K of every level."""
        return self._set(codebookSize=value)

    def setMaxIter(self, value: int) -> Self:
        """Set the maximal number of Lloyd steps per level."""
        return self._set(maxIter=value)

    def setTol(self, value: float) -> Self:
        """Set the shift of the centroids, relative to the variance of the data, at which a level stops."""
        return self._set(tol=value)

    def setSeed(self, value: int) -> Self:
        """Set the seed for all draws."""
        return self._set(seed=value)

    def setInitialCodebooks(self, value: np.ndarray | list) -> Self:
        """Set the codebooks (L, K, D) to start from."""
        return self._set(initialCodebooks=value)

    def getNumLevels(self) -> int:
        """Return the number of levels L."""
        return self.getOrDefault(self.numLevels)

    def getCodebookSize(self) -> int:
        """Return the number of centroids K of every level."""
        return self.getOrDefault(self.codebookSize)

    def getCodebookSizes(self) -> list[int]:
        """Return the number of centroids K of each level."""
        if self.isDefined(self.codebookSizes):
            return self.getOrDefault(self.codebookSizes)
        return [self.getCodebookSize()] * self.getNumLevels()

    def getInitialCodebooks(self) -> np.ndarray | None:
        """Return the codebooks (L, K, D) float32 to start from, or None if there are none."""
        return self.getOrDefault(self.initialCodebooks) if self.isDefined(self.initialCodebooks) else None

    def check_params(self) -> None:
        """Refuse params out of range.

        Raises:
            ValueError: A param is out of its range, or codebookSizes has another length than numLevels.
        """
        sizes = self.getOrDefault(self.codebookSizes) if self.isDefined(self.codebookSizes) else None
        for name in ("numLevels", "codebookSize", "maxIter"):
            if (value := self.getOrDefault(name)) < 1:
                raise ValueError(f"{name} is {value}, must be at least 1.")
        for name in ("tol", "errorTol", "warmupIter"):
            if not (value := self.getOrDefault(name)) >= 0:
                raise ValueError(f"{name} is {value}, must be at least 0.")
        for name, choices in (("initMode", INIT_MODES), ("zeroVectors", ZERO_VECTORS)):
            if (value := self.getOrDefault(name)) not in choices:
                raise ValueError(f"{name} is {value}, must be one of {', '.join(choices)}.")
        if (load := self.getOrDefault(self.maxLoad)) and not load > 1:
            raise ValueError(f"maxLoad is {load}, must be above 1, or 0 to split no clusters.")
        if (capacity := self.getOrDefault(self.capacity)) and not 1 < capacity < float("inf"):
            raise ValueError(f"capacity is {capacity}, must be above 1 and finite, or 0 for no limit.")
        if sizes is not None and (len(sizes) != self.getNumLevels() or min(sizes) < 1):
            raise ValueError(
                f"codebookSizes is {sizes}, must be numLevels = {self.getNumLevels()} sizes of at least 1."
            )
