"""Residual k-means with a further level of finite scalar quantization.

In: a column of embeddings. Out: the L codes of residual k-means, followed by the code of their residual::

    item_id  embedding            item_id  embedding    rq_codes
    7        [0.6, 0.8]     ->    7        [0.6, 0.8]   [1, 0, 2071]
    8        [0.0, 1.0]           8        [0.0, 1.0]   [1, 3, 88]

Source: Res-KmeansFSQ of QARM V2, arXiv 2602.08559.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import (
    DefaultParamsReadable,
    DefaultParamsWritable,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql import Column, DataFrame
from pyspark.sql.types import ArrayType, FloatType, IntegerType

from qarm_features.quantizers.arrays.codebooks import level_sizes, levels_of, pad_levels, permute_levels
from qarm_features.quantizers.arrays.lloyd import quantize
from qarm_features.quantizers.arrays.scalar_rounding import ScalarRounding, empty_rounding
from qarm_features.quantizers.finite_scalar import FiniteScalar
from qarm_features.quantizers.model_files import ArraysReader, ArraysWriter
from qarm_features.quantizers.params.finite_scalar_params import check_levels
from qarm_features.quantizers.params.residual_kmeans_params import MAX_ITER, EmbeddingColumns, ResidualKMeansParams
from qarm_features.quantizers.passes.column_functions import column_function
from qarm_features.quantizers.passes.embedding_batches import checked_rows
from qarm_features.quantizers.residual_kmeans import ResidualKMeans, ResidualKMeansModel
from qarm_features.quantizers.rq_models import LevelMeans


class ResidualKMeansFiniteScalar(
    Estimator["ResidualKMeansFiniteScalarModel"], ResidualKMeansParams, DefaultParamsReadable, DefaultParamsWritable
):
    """Fits residual k-means, then finite scalar quantization to the residuals of its last level.

    Args:
        inputCol: Name of the column of embeddings (D), default "embedding".
        outputCol: Name of the column of codes that the model adds, default "rq_codes".
        numLevels: Number of k-means levels L before the last level, at least 1, default 2.
        codebookSize: Number of centroids K of each k-means level, default 256.
        lastCodebookSize: Maximal number of codes of the last level, 2 to 65536, default 4096.
        lastLevels: Number of scalars of each dimension of the last level, in place of ``lastCodebookSize``.
        maxIter: See ``ResidualKMeans``, like all params below.
        tol: See ``ResidualKMeans``.
        seed: See ``ResidualKMeans``.
        codebookSizes: See ``ResidualKMeans``.
        initMode: See ``ResidualKMeans``.
        warmupIter: See ``ResidualKMeans``.
        errorTol: See ``ResidualKMeans``.
        weightCol: See ``ResidualKMeans``.
        spherical: See ``ResidualKMeans``.
        maxLoad: See ``ResidualKMeans``.
        capacity: See ``ResidualKMeans``.
        zeroVectors: See ``ResidualKMeans``.
        device: See ``ResidualKMeans``.

    Source: QARM V2, arXiv 2602.08559.

    Example: ::

        model = ResidualKMeansFiniteScalar(numLevels=2, codebookSize=256, lastLevels=[8, 8, 8, 5]).fit(embeddings)
        codes = model.transform(embeddings)  # adds rq_codes: array<int>, 3 codes, the last in [0, 2560)
    """

    lastCodebookSize = Param(Params._dummy(), "lastCodebookSize", "Maximal number of last codes.", TypeConverters.toInt)
    lastLevels = Param(Params._dummy(), "lastLevels", "Number of scalars of each dimension.", TypeConverters.identity)

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str = "embedding",
        outputCol: str = "rq_codes",
        numLevels: int = 2,
        codebookSize: int = 256,
        lastCodebookSize: int = 4096,
        lastLevels: list[int] | None = None,
        maxIter: int = MAX_ITER,
        tol: float = 1e-4,
        seed: int = 0,
        codebookSizes: list[int] | None = None,
        initMode: str = "k-means++",
        warmupIter: int = 0,
        errorTol: float = 0.0,
        weightCol: str | None = None,
        spherical: bool = False,
        maxLoad: float = 0.0,
        capacity: float = 0.0,
        zeroVectors: str = "error",
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self._setDefault(numLevels=2, lastCodebookSize=4096, lastLevels=None)
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **params: Any) -> ResidualKMeansFiniteScalar:
        """Set any of the constructor's arguments."""
        return self._set(**self._input_kwargs)

    def fit_from(
        self, dataset: DataFrame, model: ResidualKMeansFiniteScalarModel, *, max_iter: int | None = None
    ) -> ResidualKMeansFiniteScalarModel:
        """Fit like ``fit``, but start from a fitted model, so that a refit begins where the last fit ended.

        Args:
            dataset: Rows with the column of embeddings (D).
            model: Fitted model of the same levels and encoder version. The last level keeps its axes.
            max_iter: Maximal number of Lloyd steps per level, at least 1; None takes ``maxIter``.

        Raises:
            ValueError: ``ResidualKMeans.fit_from`` or ``FiniteScalar.fit_from`` refuses the model or the rows.
        """
        estimator = self if max_iter is None else self.copy({self.maxIter: max_iter})
        return estimator._fitted(dataset, model)

    def _fit(self, dataset: DataFrame) -> ResidualKMeansFiniteScalarModel:
        return self._fitted(dataset, None)

    def _fitted(
        self, dataset: DataFrame, start: ResidualKMeansFiniteScalarModel | None
    ) -> ResidualKMeansFiniteScalarModel:
        last_levels, last_size = self.getOrDefault(self.lastLevels), self.getOrDefault(self.lastCodebookSize)
        if last_levels is not None:
            check_levels(last_levels, "lastLevels")
        if not 2 <= last_size <= 65_536:
            raise ValueError(f"lastCodebookSize is {last_size}, must be 2 to 65536.")
        estimator = self._copyValues(ResidualKMeans())
        kmeans = estimator.fit(dataset) if start is None else estimator.fit_from(dataset, start.kmeans_codebooks)
        last = FiniteScalar(codebookSize=last_size, levels=last_levels, seed=self.getSeed())
        _, *weight = self.columns(dataset)
        if weight:
            last.setWeightCol("weight")
        residuals = dataset.select(_residuals(kmeans, dataset).alias("residual"), *weight)
        fitted = last.fit(residuals) if start is None else last.fit_from(residuals, start.rounding)
        summary = {"levels": kmeans.training_summary, "last": fitted.training_summary}
        return self._copyValues(ResidualKMeansFiniteScalarModel(kmeans.codebooks, fitted.rounding, summary))


class ResidualKMeansFiniteScalarModel(Model, EmbeddingColumns, MLReadable, MLWritable):
    """Quantizes embeddings by codebooks, and their residuals by scalars.

    Attributes:
        kmeans_codebooks: Codebooks (L, K, D) float32 of the levels before the last; smaller levels end in rows of NaN.
        rounding: Projection, boundaries and scalars of the last level.
        training_summary: ``levels``, see ``ResidualKMeansModel``, and ``last``, see ``FiniteScalarModel``; empty for a model
            that was not fitted here.

    Example: ::

        model.transform(embeddings).select("item_id", "rq_codes")
        model.decode_codes(codes)  # (B, L + 1) -> embeddings (B, D) that the codes stand for
    """

    def __init__(
        self,
        kmeans_codebooks: np.ndarray | None = None,
        rounding: ScalarRounding | None = None,
        training_summary: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.kmeans_codebooks: np.ndarray = (
            np.empty((0, 0, 0), np.float32) if kmeans_codebooks is None else kmeans_codebooks
        )
        self.rounding: ScalarRounding = empty_rounding() if rounding is None else rounding
        self.training_summary: dict[str, Any] = training_summary or {}

    @property
    def codebooks(self) -> np.ndarray:
        """What every code stands for, (L + 1, K, D) float32; smaller levels end in rows of NaN.

        A row of the last level is a combination of scalars. The code of an embedding in that level need not be the code
        of the nearest row.
        """
        codes = np.arange(self.level_sizes[-1])
        return pad_levels([*levels_of(self.kmeans_codebooks), self.rounding.decode(codes)])

    @property
    def level_sizes(self) -> list[int]:
        """Number of codes K of each level."""
        return [*level_sizes(self.kmeans_codebooks), math.prod(self.rounding.levels)]

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], **columns: str) -> ResidualKMeansFiniteScalarModel:
        """Restore a model.

        Args:
            arrays: Arrays as ``to_arrays`` returned them.
            columns: ``inputCol`` and ``outputCol`` of the model.
        """
        codebooks = arrays["kmeans_codebooks"].astype(np.float32)
        return cls(codebooks, ScalarRounding.from_arrays(arrays))._set(**columns)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return named arrays that hold all of the model."""
        return {"kmeans_codebooks": self.kmeans_codebooks, **self.rounding.to_arrays()}

    def decode_codes(self, codes: np.ndarray) -> np.ndarray:
        """Return the embeddings (B, D) float32 that codes (B, L + 1) stand for."""
        codes = np.asarray(codes)
        return self.rounding.decode(codes[:, -1]) + _centroid_sums(codes[:, :-1], self.kmeans_codebooks)

    @property
    def permutable_sizes(self) -> list[int]:
        """Number of centroids K of each level but the last, whose codes follow the order of its axes and scalars."""
        return level_sizes(self.kmeans_codebooks)

    def level_figures(self) -> list[dict[str, Any]]:
        """Return what the fit found, one dict per level, see ``fit_levels``; an empty list for a model not fitted here.

        The last level has no entry ``sse``, because its fit counts no errors.
        """
        if not self.training_summary:
            return []
        levels, last = self.training_summary["levels"], self.training_summary["last"]
        figures = {
            "level": len(levels),
            "iterations": 0,
            "rows": last["rows"],
            "seconds": last["seconds"],
            "fsq_levels": last["levels"],
            "codebook_size": self.level_sizes[-1],
        }
        return [*levels, figures]

    def permuted(self, labels: Sequence[np.ndarray]) -> ResidualKMeansFiniteScalarModel:
        """Relabel codes of k-means levels; the model has no summary.

        Args:
            labels: Permutation (K,) of each k-means level: ``labels[l][c]`` is the new code of centroid c of level l.
        """
        return self._with(permute_levels(self.kmeans_codebooks, labels), self.rounding)

    def renewed(self, level: int, means: LevelMeans) -> ResidualKMeansFiniteScalarModel:
        """Move what one level decodes to the best place for codes that are held; the model has no summary.

        Args:
            level: Index of the level, from 0; the last one gets new scalars and keeps its axes and boundaries.
            means: Means over the items that have these codes.
        """
        if level == len(self.level_sizes) - 1:
            return self._with(self.kmeans_codebooks, means.scalars(self.codebooks, self.rounding))
        levels = levels_of(means.centroids(self.codebooks, level))
        return self._with(pad_levels(levels[:-1]), self.rounding)

    def _with(self, kmeans_codebooks: np.ndarray, rounding: ScalarRounding) -> ResidualKMeansFiniteScalarModel:
        return self._copyValues(ResidualKMeansFiniteScalarModel(kmeans_codebooks, rounding))

    def encoder(self) -> Callable[[pa.Array], pa.Array]:
        """Return a function from B embeddings to B lists of L + 1 codes, for Spark's workers."""
        return partial(_encode, codebooks=self.kmeans_codebooks, rounding=self.rounding, name=self.getInputCol())

    def write(self) -> MLWriter:
        """Return a writer that saves the params, codebooks and rounding."""
        return ArraysWriter(self)

    @classmethod
    def read(cls) -> MLReader[ResidualKMeansFiniteScalarModel]:
        """Return a reader that loads what ``write`` saved."""
        return ArraysReader(cls)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        embeddings = self.embeddings(dataset)
        self.check_new_columns(dataset, "outputCol")
        encode = self.encoder()

        def codes(batch: pa.Array) -> pa.Array:
            return encode(batch)

        return dataset.withColumn(self.getOutputCol(), column_function(codes, ArrayType(IntegerType()))(embeddings))


def _encode(batch: pa.Array, codebooks: np.ndarray, rounding: ScalarRounding, name: str) -> pa.Array:
    """Return B lists of L + 1 codes of B embeddings."""
    rows = checked_rows(batch, codebooks.shape[2], name, "in the codebooks", advice="Use their encoder version.")
    first, rest = quantize(rows, codebooks)
    table = np.column_stack([first, rounding.encode(rest)]).astype(np.int32)
    return pa.ListArray.from_arrays(np.arange(len(table) + 1, dtype=np.int32) * table.shape[1], table.ravel())


def _residuals(kmeans: ResidualKMeansModel, dataset: DataFrame) -> Column:
    """Return the column of residuals (D): rows less the centroids of all their codes."""
    codebooks, name = kmeans.codebooks, kmeans.getInputCol()

    def residuals(batch: pa.Array) -> pa.Array:
        rest = quantize(checked_rows(batch, codebooks.shape[2], name, "in the codebooks"), codebooks)[1]
        return pa.ListArray.from_arrays(np.arange(len(rest) + 1, dtype=np.int32) * rest.shape[1], rest.ravel())

    return column_function(residuals, ArrayType(FloatType()))(kmeans.embeddings(dataset))


def _centroid_sums(codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    """Return the sums (B, D) of the centroids of codes (B, L)."""
    total = np.zeros((len(codes), codebooks.shape[2]), np.float32)
    for centroids, column in zip(codebooks, codes.T):
        total += centroids[column]
    return total
