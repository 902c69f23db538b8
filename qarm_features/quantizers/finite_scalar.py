"""Finite scalar quantization over all rows of a DataFrame, which needs no centroids.

In: a column of rows, usually residuals of k-means, as array<float>, array<double> or a pyspark.ml vector. Out: one code in
[0, K) per row. A code names a few dimensions of the row, each rounded to one of a few scalars::

    item_id  residual           item_id  residual        fsq_code
    7        [0.02, -0.1]  ->   7        [0.02, -0.1]    17
    8        [0.05, 0.3]        8        [0.05, 0.3]     5

Source: FSQ, arXiv 2309.15505; as the level after residual k-means, QARM V2, arXiv 2602.08559. That paper does not say how
the projection is fitted. Here it consists of principal components, see docs/decisions.
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
from pyspark.sql.types import IntegerType

from qarm_features.quantizers.arrays.scalar_rounding import (
    ScalarRounding,
    empty_rounding,
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
from qarm_features.quantizers.passes.column_functions import column_function
from qarm_features.quantizers.passes.embedding_batches import check_facts, checked_rows
from qarm_features.quantizers.passes.scalar_passes import RowFacts, describe_rows, histograms, mean_and_covariance


class FiniteScalar(Estimator["FiniteScalarModel"], FiniteScalarParams, DefaultParamsReadable, DefaultParamsWritable):
    """Fits a projection to few dimensions, and the scalars to which each is rounded, in three passes over all rows.

    The same rows and seed give the same model for any partitions and row order, because moments are exact on a grid.

    Args:
        inputCol: Name of the column of rows (D), default "residual".
        outputCol: Name of the column of codes that the model adds, default "fsq_code".
        levels: Number of scalars of each dimension, for example [8, 8, 8, 5], the dimension of the largest variance first.
            By default the fit chooses the numbers with the least squared error and at most ``codebookSize`` codes.
        codebookSize: Maximal number of codes if ``levels`` is not set, 2 to 65536, default 4096.
        projection: Orthonormal axes of the projection: "pca" (default) or "random".
        spacing: Spacing of the scalars: "mass" (default) makes cells with equal numbers of rows, "error" minimizes the
            squared error.
        seed: Seed for random axes, any integer, default 0.
        weightCol: Name of a column of weights of at least 0. A row of weight 3 counts like three rows. By default all rows
            count once.

    Source: FSQ, arXiv 2309.15505.

    Example: ::

        model = FiniteScalar(levels=[8, 8, 8, 5]).fit(residuals)
        codes = model.transform(residuals)  # adds fsq_code: int in [0, 2560)
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
    ) -> None:
        super().__init__()
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **params: Any) -> FiniteScalar:
        """Set any of the constructor's arguments."""
        return self._set(**self._input_kwargs)

    def fit_from(self, dataset: DataFrame, rounding: ScalarRounding) -> FiniteScalarModel:
        """Fit a new mean, new boundaries and new scalars on the axes of a fitted model, so that most rows keep their code.

        The params ``levels``, ``codebookSize`` and ``projection`` have no effect, because the axes and their numbers of
        scalars stay.

        Args:
            dataset: DataFrame with the column of rows (D).
            rounding: Rounding of the fitted model.

        Raises:
            ValueError: The rows have another dimension than the axes, or cannot be quantized.
        """
        return self._copyValues(self._fitted(dataset, rounding))

    def _fit(self, dataset: DataFrame) -> FiniteScalarModel:
        return self._copyValues(self._fitted(dataset, None))

    def _fitted(self, dataset: DataFrame, start: ScalarRounding | None) -> FiniteScalarModel:
        """Return a fitted model without params, whose axes are those of ``start`` unless it is None."""
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
        """Return the axes (d, D) of the projection, as many as the levels or codes can use."""
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
        """Return the rounding whose scalars are fitted to the histograms, and its squared error within the axes."""
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
        """Refuse rows that cannot be quantized with these params, or from these axes.

        Args:
            facts: Facts of the rows, counted in one pass.
            start: Rounding that the fit starts from, or None.

        Raises:
            ValueError: There are no rows, or rows have bad values or another dimension than the levels or axes allow.
        """
        name, levels = self.getInputCol(), self.getLevels()
        if facts.rows == 0:
            raise ValueError("DataFrame has 0 rows, must have at least 1. Check its filters.")
        check_facts(facts, name)
        self.check_weights(facts)
        if start is not None:
            if facts.max_dim != len(start.mean):
                raise ValueError(
                    f"{name} has dimension {facts.max_dim}, must be {len(start.mean)} as in the rounding to start from. "
                    "Fit without it."
                )
        elif levels and len(levels) > (facts.max_dim or 0):
            raise ValueError(
                f"levels has {len(levels)} numbers, must have at most one per dimension of {name}, {facts.max_dim}. "
                "Name fewer."
            )


class FiniteScalarModel(Model, EmbeddingColumns, MLReadable, MLWritable):
    """Rounds rows to codes.

    A row has the same code on every CPU and for any partitioning, whether or not the fit saw it.

    Attributes:
        rounding: Mean, projection (d, D), and boundaries and scalars of each dimension.
        training_summary: ``rows``, ``levels`` (number of scalars of each used dimension), ``relative_error`` (mean squared
            error relative to the variance, from the histograms) and ``seconds``; empty for a model that was not fitted here.

    Example: ::

        model.transform(residuals).select("item_id", "fsq_code")
        model.decode(codes)  # (B,) -> rows (B, D) that the codes stand for
    """

    def __init__(self, rounding: ScalarRounding | None = None, training_summary: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._setDefault(inputCol="residual", outputCol="fsq_code")
        self.rounding: ScalarRounding = empty_rounding() if rounding is None else rounding
        self.training_summary: dict[str, Any] = training_summary or {}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> FiniteScalarModel:
        """Restore a model from the arrays that ``to_arrays`` returned."""
        return cls(ScalarRounding.from_arrays(arrays))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return named arrays that hold all of the model."""
        return self.rounding.to_arrays()

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the rows (B, D) float32 that codes (B,) stand for."""
        return self.rounding.decode(codes)

    def write(self) -> MLWriter:
        """Return a writer that saves the params and the rounding."""
        return ArraysWriter(self)

    @classmethod
    def read(cls) -> MLReader[FiniteScalarModel]:
        """Return a reader that loads what ``write`` saved."""
        return ArraysReader(cls)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        rows = self.embeddings(dataset)
        self.check_new_columns(dataset, "outputCol")
        rounding, name = self.rounding, self.getInputCol()

        def codes(batch: pa.Array) -> pa.Array:
            return pa.array(rounding.encode(checked_rows(batch, len(rounding.mean), name, "in the projection")))

        return dataset.withColumn(self.getOutputCol(), column_function(codes, IntegerType())(rows))
