"""Residual k-means whose last level is finite scalar quantization: embeddings in, RQ codes of L + 1 levels out.

In: a column of embeddings. Out: the L codes of residual k-means, then the code of what these left over::

    item_id  embedding            item_id  embedding    rq_codes
    7        [0.6, 0.8]     ->    7        [0.6, 0.8]   [1, 0, 2071]
    8        [0.0, 1.0]           8        [0.0, 1.0]   [1, 3, 88]

Source: Res-KmeansFSQ of QARM V2, arXiv 2602.08559.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasMaxIter, HasSeed, HasTol
from pyspark.ml.util import (
    DefaultParamsReadable,
    DefaultParamsReader,
    DefaultParamsWritable,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import ArrayType, FloatType, IntegerType

from qarm_features.quantizers.embedding_batches import to_matrix
from qarm_features.quantizers.finite_scalar import FiniteScalar, read_rounding, write_rounding
from qarm_features.quantizers.finite_scalar_params import check_levels
from qarm_features.quantizers.residual_kmeans import ResidualKMeans, ResidualKMeansModel
from qarm_features.quantizers.residual_kmeans_params import EmbeddingColumns
from qarm_features.quantizers.scalar_rounding import ScalarRounding

_RQ = "__rq_codes"


class ResidualKMeansFiniteScalar(
    Estimator, EmbeddingColumns, HasMaxIter, HasTol, HasSeed, DefaultParamsReadable, DefaultParamsWritable
):
    """Fits residual k-means, then finite scalar quantization to the residuals of its last level.

    Args:
        inputCol: the column of embeddings (D), default "embedding".
        outputCol: the column that the model adds, default "rq_codes".
        numLevels: L, levels of k-means before the last one, at least 1, default 2.
        codebookSize: K of these, default 256.
        lastCodebookSize: the most codes of the last level, 2 to 65536, default 4096.
        lastLevels: scalars of each dimension of the last level, in place of lastCodebookSize.
        maxIter, tol, seed: as of `ResidualKMeans`.

    Source: QARM V2, arXiv 2602.08559.
    """

    numLevels = Param(Params._dummy(), "numLevels", "levels of k-means.", TypeConverters.toInt)
    codebookSize = Param(Params._dummy(), "codebookSize", "K of these.", TypeConverters.toInt)
    lastCodebookSize = Param(Params._dummy(), "lastCodebookSize", "codes of the last level.", TypeConverters.toInt)
    lastLevels = Param(Params._dummy(), "lastLevels", "scalars of its dimensions.", TypeConverters.identity)

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
        maxIter: int = 10,
        tol: float = 1e-4,
        seed: int = 0,
    ):
        super().__init__()
        self._setDefault(numLevels=2, codebookSize=256, lastCodebookSize=4096, lastLevels=None)
        self._setDefault(maxIter=10, tol=1e-4, seed=0)
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **params: Any) -> ResidualKMeansFiniteScalar:
        """Sets any of the constructor's arguments."""
        return self._set(**self._input_kwargs)

    def _fit(self, dataset: DataFrame) -> ResidualKMeansFiniteScalarModel:
        of = self.getOrDefault
        if of("lastLevels") is not None:
            check_levels(of("lastLevels"), "lastLevels")
        if not 2 <= of("lastCodebookSize") <= 65_536:
            raise ValueError(f"lastCodebookSize is {of('lastCodebookSize')}, must be 2 to 65536.")
        shared = {name: of(name) for name in ("inputCol", "numLevels", "codebookSize", "maxIter", "tol", "seed")}
        kmeans = ResidualKMeans(**shared, outputCol=_RQ).fit(dataset)
        last = FiniteScalar(codebookSize=of("lastCodebookSize"), levels=of("lastLevels"), seed=self.getSeed())
        fitted = last.fit(_with_residuals(kmeans, dataset))
        summary = {"levels": kmeans.training_summary, "last": fitted.training_summary}
        return self._copyValues(ResidualKMeansFiniteScalarModel(kmeans.codebooks, fitted.rounding, summary))


class ResidualKMeansFiniteScalarModel(Model, EmbeddingColumns, MLReadable, MLWritable):
    """Quantizes embeddings by codebooks, and what they leave over by scalars.

    Attributes:
        codebooks: (L, K, D) float32.
        rounding: of the last level.
        training_summary: levels, as of `ResidualKMeansModel`, and last, as of `FiniteScalarModel`.
    """

    def __init__(
        self,
        codebooks: np.ndarray | None = None,
        rounding: ScalarRounding | None = None,
        training_summary: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.codebooks, self.rounding = codebooks, rounding
        self.training_summary = training_summary or {}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], **params: Any) -> ResidualKMeansFiniteScalarModel:
        """Makes a model of what `to_arrays` returned, for example of an artifact's safetensors; params: the columns."""
        codebooks = arrays["codebooks"].astype(np.float32)
        return cls(codebooks, ScalarRounding.from_arrays(arrays))._set(**params)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns arrays that hold all of the model."""
        return {"codebooks": self.codebooks, **self.rounding.to_arrays()}

    def decode_codes(self, codes: np.ndarray) -> np.ndarray:
        """Returns the embeddings (B, D) float32 that codes (B, L + 1) stand for."""
        codes = np.asarray(codes)
        return self.rounding.decode(codes[:, -1]) + _centroid_sums(codes[:, :-1], self.codebooks)

    def write(self) -> MLWriter:
        """Returns a writer of params, codebooks and rounding."""
        return _ModelWriter(self)

    @classmethod
    def read(cls) -> MLReader:
        """Returns a reader of what `write` wrote."""
        return _ModelReader()

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self.check_new_columns(dataset, "outputCol")
        kmeans = ResidualKMeansModel.from_codebooks(self.codebooks, inputCol=self.getInputCol(), outputCol=_RQ)
        rounding = self.rounding

        @arrow_udf(ArrayType(IntegerType()))
        def with_last(codes: pa.Array, residuals: pa.Array) -> pa.Array:
            if not len(codes):
                return codes
            table = codes.flatten().to_numpy().reshape(len(codes), -1)
            table = np.column_stack([table, rounding.encode(to_matrix(residuals)[0])]).astype(np.int32)
            return pa.ListArray.from_arrays(np.arange(len(table) + 1, dtype=np.int32) * table.shape[1], table.ravel())

        rows = _with_residuals(kmeans, dataset)
        return rows.withColumn(self.getOutputCol(), with_last(F.col(_RQ), F.col("residual"))).drop(_RQ, "residual")


def _with_residuals(kmeans: ResidualKMeansModel, dataset: DataFrame) -> DataFrame:
    """Adds codes and what their centroids leave over of the embedding."""
    codebooks = kmeans.codebooks

    @arrow_udf(ArrayType(FloatType()))
    def residuals(embeddings: pa.Array, codes: pa.Array) -> pa.Array:
        if not len(embeddings):
            return pa.array([], pa.list_(pa.float32()))
        rest = to_matrix(embeddings)[0]
        for centroids, column in zip(codebooks, codes.flatten().to_numpy().reshape(len(codes), -1).T):
            rest = rest - centroids[column]
        return pa.ListArray.from_arrays(np.arange(len(rest) + 1, dtype=np.int32) * rest.shape[1], rest.ravel())

    return kmeans.transform(dataset).withColumn("residual", residuals(kmeans.embeddings(dataset), F.col(_RQ)))


def _centroid_sums(codes: np.ndarray, codebooks: np.ndarray) -> np.ndarray:
    return sum(centroids[column] for centroids, column in zip(codebooks, codes.T))


class _ModelWriter(MLWriter):
    def __init__(self, instance: ResidualKMeansFiniteScalarModel):
        super().__init__()
        self.instance = instance

    def saveImpl(self, path: str) -> None:
        write_rounding(self.instance, path, self.sparkSession, self.instance.to_arrays())


class _ModelReader(MLReader):
    def load(self, path: str) -> ResidualKMeansFiniteScalarModel:
        metadata, arrays = read_rounding(path, self.sparkSession)
        model = ResidualKMeansFiniteScalarModel.from_arrays(arrays)
        model.training_summary = metadata["training_summary"]
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model
