"""Finite scalar quantization over all rows of a DataFrame: residuals in, one code per row out, without centroids.

In: a column of rows, in practice residuals of k-means, array<float>, array<double> or a pyspark.ml vector. Out: a code in
[0, K) per row: a few dimensions of the row, each rounded to one of a few scalars::

    item_id  residual           item_id  residual        fsq_code
    7        [0.02, -0.1]  ->   7        [0.02, -0.1]    17
    8        [0.05, 0.3]        8        [0.05, 0.3]     5

Source: FSQ, arXiv 2309.15505; as the level after residual k-means: QARM V2, arXiv 2602.08559, which leaves open how the
projection is fitted: here by principal components, see docs/decisions.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.util import (
    DefaultParamsReadable,
    DefaultParamsWritable,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql import DataFrame
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import IntegerType

from qarm_features.quantizers.arrays.scalar_rounding import (
    ScalarRounding,
    errors_by_count,
    fit_scalars,
    most_dimensions,
    principal_axes,
    random_axes,
    share_out,
)
from qarm_features.quantizers.model_files import ArraysReader, ArraysWriter
from qarm_features.quantizers.params.finite_scalar_params import FiniteScalarParams
from qarm_features.quantizers.params.residual_kmeans_params import EmbeddingColumns
from qarm_features.quantizers.passes.embedding_batches import check_facts, checked_rows
from qarm_features.quantizers.passes.scalar_passes import RowFacts, describe_rows, histograms, mean_and_covariance


class FiniteScalar(Estimator, FiniteScalarParams, DefaultParamsReadable, DefaultParamsWritable):
    """Fits a projection to few dimensions and the scalars that each is rounded to, in three passes over all rows.

    The same rows and seed give the same model, whatever the partitions and the row order: moments are exact on a grid.

    Args:
        inputCol: the column of rows (D), default "residual".
        outputCol: the column of codes that the model adds, default "fsq_code".
        levels: scalars of each dimension, for example [8, 8, 8, 5], the dimension of the largest variance first; by
            default shared out so that at most codebookSize codes make the least squared error.
        codebookSize: the most codes where levels is not set, 2 to 65536, default 4096.
        projection: ``pca`` (default) or ``random`` orthonormal axes.
        spacing: ``mass`` (default), cells of equally many rows; ``error``, scalars with the least squared error.
        seed: of random axes, any integer, default 0.
        weightCol: the column of weights, at least 0: a row of weight 3 counts as three rows. Default: all count once.

    Source: FSQ, arXiv 2309.15505.
    """

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str = "residual",
        outputCol: str = "fsq_code",
        levels: list[int] | None = None,
        codebookSize: int = 4096,
        projection: str = "pca",
        spacing: str = "mass",
        seed: int = 0,
        weightCol: str | None = None,
    ):
        super().__init__()
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **params: Any) -> FiniteScalar:
        """Sets any of the constructor's arguments."""
        return self._set(**self._input_kwargs)

    def fit_from(self, dataset: DataFrame, rounding: ScalarRounding) -> FiniteScalarModel:
        """Fits boundaries, scalars and mean anew and keeps the axes and their numbers of scalars, so that most rows keep
        their code; levels, codebookSize and projection are not asked.

        Args:
            dataset: rows with the column of rows (D).
            rounding: of a fitted model.

        Raises:
            ValueError: The rows have another dimension than the axes, or cannot be quantized.
        """
        return self._copyValues(self._fitted(dataset, rounding))

    def _fit(self, dataset: DataFrame) -> FiniteScalarModel:
        return self._copyValues(self._fitted(dataset, None))

    def _fitted(self, dataset: DataFrame, start: ScalarRounding | None) -> FiniteScalarModel:
        self.check_params()
        began = time.perf_counter()
        row, *weight = self.columns(dataset)
        rows = dataset.select(row.cast("array<float>").alias("row"), *weight)
        facts = describe_rows(rows)
        self._check_rows(facts, start)
        mean, covariance = mean_and_covariance(rows, facts)
        axes = self._axes(covariance) if start is None else start.projection
        wide = axes.astype(np.float64)
        variances = np.maximum(np.einsum("id,de,ie->i", wide, covariance, wide), 0.0)
        deviations = np.sqrt(np.maximum(variances, np.finfo(np.float32).tiny))
        mean = mean.astype(np.float32)
        counts = histograms(rows, facts, mean, axes, deviations)
        levels = self.getLevels() if start is None else start.levels
        rounding, error = self._rounding(mean, axes, deviations, counts, levels)
        total, seen = float(np.trace(covariance)), float(variances.sum())
        summary = {
            "rows": facts.rows,
            "levels": rounding.levels,
            "relative_error": (max(0.0, total - seen) + error) / total if total > 0 else 0.0,
            "seconds": round(time.perf_counter() - began, 3),
        }
        return FiniteScalarModel(rounding, summary)

    def _axes(self, covariance: np.ndarray) -> np.ndarray:
        """Returns as many axes (d, D) as levels or codes can use."""
        dim, levels = len(covariance), self.getLevels()
        count = min(len(levels) if levels else most_dimensions(self.getCodebookSize()), dim)
        if self.getProjection() == "pca":
            return principal_axes(covariance, count)
        return random_axes(dim, count, self.getSeed())

    def _rounding(
        self,
        mean: np.ndarray,
        axes: np.ndarray,
        deviations: np.ndarray,
        counts: np.ndarray,
        levels: list[int] | None,
    ) -> tuple[ScalarRounding, float]:
        """Fits the scalars to the histograms; returns the rounding and its squared error within the axes."""
        spacing, scales = self.getSpacing(), np.square(deviations)
        if levels is None:
            errors = errors_by_count(counts, scales, self.getCodebookSize(), spacing=spacing)
            levels = share_out(errors, self.getCodebookSize())
        fitted = [fit_scalars(row, n, spacing=spacing) for row, n in zip(counts, levels)]
        error = float(sum(error * scale for (_, _, error), scale in zip(fitted, scales)))
        used = [column for column, n in enumerate(levels) if n > 1] or [0]
        edges, scalars = ([fitted[c][part] * deviations[c] for c in used] for part in (0, 1))
        return ScalarRounding(mean, axes[used], edges, scalars), error

    def _check_rows(self, facts: RowFacts, start: ScalarRounding | None) -> None:
        """Refuses rows that cannot be quantized with these params, or from these axes."""
        name, levels = self.getInputCol(), self.getLevels()
        if facts.rows == 0:
            raise ValueError("DataFrame has 0 rows, must have at least 1. Check its filters.")
        check_facts(facts, name)
        self.check_weights(facts)
        if start is not None:
            if facts.max_dim != len(start.mean):
                raise ValueError(
                    f"{name} has dimension {facts.max_dim}, must be {len(start.mean)} as in the rounding to start from. "
                    "Fit from nothing."
                )
        elif levels and len(levels) > facts.max_dim:
            raise ValueError(
                f"levels has {len(levels)} numbers, must have at most one per dimension of {name}, {facts.max_dim}. "
                "Name fewer."
            )


class FiniteScalarModel(Model, EmbeddingColumns, MLReadable, MLWritable):
    """Rounds rows to codes; a code is the same on every CPU and for any partitioning, for new rows too.

    Attributes:
        rounding: mean, projection (d, D), boundaries and scalars of each dimension.
        training_summary: rows, levels (scalars of each dimension used), relative_error (mean squared error by variance,
            from the histograms), seconds; empty for a rounding that was not fitted here.
    """

    def __init__(self, rounding: ScalarRounding | None = None, training_summary: dict[str, Any] | None = None):
        super().__init__()
        self._setDefault(inputCol="residual", outputCol="fsq_code")
        self.rounding = rounding
        self.training_summary = training_summary or {}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> FiniteScalarModel:
        """Makes a model of what `to_arrays` returned."""
        return cls(ScalarRounding.from_arrays(arrays))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns arrays that hold all of the model."""
        return self.rounding.to_arrays()

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns the rows (B, D) float32 that codes (B,) stand for."""
        return self.rounding.decode(codes)

    def write(self) -> MLWriter:
        """Returns a writer of params and rounding."""
        return ArraysWriter(self)

    @classmethod
    def read(cls) -> MLReader:
        """Returns a reader of what `write` wrote."""
        return ArraysReader(cls)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        rows = self.embeddings(dataset)
        self.check_new_columns(dataset, "outputCol")
        rounding, name = self.rounding, self.getInputCol()

        @arrow_udf(IntegerType())
        def codes(batch: pa.Array) -> pa.Array:
            return pa.array(rounding.encode(checked_rows(batch, len(rounding.mean), name, "in the projection")))

        return dataset.withColumn(self.getOutputCol(), codes(rows))
