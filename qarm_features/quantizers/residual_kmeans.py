"""Residual k-means over all rows of a DataFrame.

In: a column of embeddings, array<float>, array<double> or a pyspark.ml vector. Out: codebooks (L, K, D) and a column of
L codes in [0, K) per row::

    item_id  embedding            item_id  embedding    rq_codes
    7        [0.6, 0.8]     ->    7        [0.6, 0.8]   [1, 0, 5]
    8        [0.0, 1.0]           8        [0.0, 1.0]   [1, 3, 2]
    9        [-1.0, 0.0]          9        [-1.0, 0.0]  [4, 0, 0]

Source: QARM, arXiv 2411.11739, section 3.2: fit K centroids, assign, subtract, repeat for L levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.param import Param
from pyspark.ml.util import DefaultParamsReadable, MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, IntegerType

from qarm_features.quantizers.arrays.codebooks import (
    check_codebooks,
    level_sizes,
    levels_of,
    pad_levels,
    permute_levels,
)
from qarm_features.quantizers.fit_levels import fit_levels
from qarm_features.quantizers.level_settings import LevelSettings
from qarm_features.quantizers.model_files import CodebooksReader, CodebooksWriter, EstimatorWriter
from qarm_features.quantizers.params.residual_kmeans_params import (
    MAX_ITER,
    EmbeddingColumns,
    HasDevice,
    ResidualKMeansParams,
)
from qarm_features.quantizers.passes.column_functions import column_function
from qarm_features.quantizers.passes.embedding_batches import assign_batch, check_facts
from qarm_features.quantizers.passes.embedding_files import EmbeddingFiles, Facts
from qarm_features.quantizers.rq_models import LevelMeans


class ResidualKMeans(Estimator["ResidualKMeansModel"], ResidualKMeansParams, DefaultParamsReadable, MLWritable):
    """Fits L codebooks of K centroids, each to the residuals of the levels before it, by Lloyd's algorithm over all rows.

    The same seed gives the same codebooks to the last bit, for any partitions, row order, number of workers and CPU,
    because sums are exact on a power-of-two grid. ``arrays/grid.py`` explains its headroom and its bound on the number of
    rows. The codebooks differ from those of a fit without a grid by about 2**-22 of the largest norm.

    The rows are read and validated once. Then files on the executors' local disks hold them until the fit ends, see
    ``passes/embedding_files.py``. They take N x D x 4 bytes, and twice as much between two levels.

    A level starts from a sample of max(20 K, 10,000) distinct rows (at most 64 MiB, at least K), or from
    ``initialCodebooks``. It stops after ``maxIter`` steps. It stops earlier when no code is above its capacity and the
    summed squared shift of its centroids is at most ``tol`` times the mean variance of the features, as in scikit-learn.
    Centroids without rows split the largest clusters. The error never rises from one level to the next, unless
    ``spherical`` or ``capacity`` forces it. The log has one line per level at INFO, and one per step with its error at
    DEBUG.

    Args:
        inputCol: Name of the column of embeddings (D), default "embedding".
        outputCol: Name of the column of codes that the model adds, default "rq_codes".
        numLevels: Number of levels L, at least 1, default 3.
        codebookSize: Number of centroids K of every level, from 1 to the number of distinct rows, default 256.
        codebookSizes: Number of centroids K of each level, in place of ``codebookSize``.
        maxIter: Maximal number of Lloyd steps per level, at least 1, default 20.
        tol: Shift of the centroids, relative to the variance of the data, at which a level stops; at least 0, default 1e-4.
        errorTol: Relative fall of the error in a step below which a level stops; at least 0, default 0.
        seed: Seed for all draws, any integer, default 0.
        initialCodebooks: Codebooks (L, K, D) to start from, in place of ``initMode``.
        initMode: How initial centroids are drawn: "k-means++" from the sample (default), "k-means||" from all rows, or
            "random" rows of the sample.
        warmupIter: Number of Lloyd steps on the sample before those over all rows, at least 0, default 0.
        weightCol: Name of a column of weights of at least 0, such as the popularity of items. A row of weight 3 counts
            like three rows in sums, errors and draws. By default all rows count once.
        spherical: True keeps the centroids of level 0 at norm 1, for embeddings of norm 1. It does not change how
            residuals are quantized. Default False.
        maxLoad: Number of rows of a cluster, relative to the mean, above which it is split during the first half of the
            steps, with the help of the centroid that has the fewest rows. Above 1; default 0, which never splits.
        capacity: Number of rows, or weight, that a code may hold, relative to the mean. The fit raises the price of fuller
            codes from step to step, so that rows at their borders get other codes. The codes of the model are those of the
            nearest centroids and may hold slightly more. Above 1; default 0, which sets no limit. If ``maxLoad`` is 0, a
            capacity sets it to 1.25 times itself.
        zeroVectors: "error" (default) refuses rows of zeros, which an encoder should never return; "keep" quantizes them.
        device: Device of the executors' matrix products: "cpu" (numpy, default), "cuda", "auto" (a GPU if torch finds
            one) or "torch-cpu". All devices give the same codes.

    Source: QARM, arXiv 2411.11739, section 3.2; scikit-learn, ``cluster/_kmeans.py``.

    Example: ::

        model = ResidualKMeans(numLevels=3, codebookSize=256).fit(embeddings)
        codes = model.transform(embeddings)  # adds rq_codes: array<int>, 3 codes in [0, 256)
    """

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str = "embedding",
        outputCol: str = "rq_codes",
        numLevels: int = 3,
        codebookSize: int = 256,
        maxIter: int = MAX_ITER,
        tol: float = 1e-4,
        seed: int = 0,
        initialCodebooks: np.ndarray | list | None = None,
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
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **params: Any) -> ResidualKMeans:
        """Set any of the constructor's arguments."""
        return self._set(**self._input_kwargs)

    def fit_from(
        self, dataset: DataFrame, start: ResidualKMeansModel | np.ndarray, *, max_iter: int | None = None
    ) -> ResidualKMeansModel:
        """Fit like ``fit``, but start from fitted codebooks, so that a refit begins where the last fit ended.

        Args:
            dataset: Rows with the column of embeddings (D).
            start: Fitted model, or its codebooks (L, K, D), finite.
            max_iter: Maximal number of Lloyd steps per level, at least 1; None takes ``maxIter``.

        Returns:
            The model. If the rows did not change and one step is done, it stays close to the given one.

        Raises:
            ValueError: The codebooks have another shape than the params and rows ask for, or are not finite.
        """
        codebooks = start.codebooks if isinstance(start, ResidualKMeansModel) else start
        params: dict[Param, Any] = {self.initialCodebooks: np.asarray(codebooks, dtype=np.float32)}
        if max_iter is not None:
            params[self.maxIter] = max_iter
        return self.copy(params).fit(dataset)

    def write(self) -> MLWriter:
        """Return a writer that saves the params."""
        return EstimatorWriter(self)

    def _fit(self, dataset: DataFrame) -> ResidualKMeansModel:
        self.check_params()
        columns = self.columns(dataset)
        initial = self.getInitialCodebooks()
        if initial is not None:
            check_codebooks(initial, "initialCodebooks", "Pass fitted codebooks.")
        files = EmbeddingFiles(dataset.select(columns), device=self.checked_device())
        try:
            self._check_rows(files.facts())
            settings = LevelSettings(
                codebook_sizes=self.getCodebookSizes(),
                max_iter=self.getMaxIter(),
                tol=self.getTol(),
                error_tol=self.getOrDefault(self.errorTol),
                seed=self.getSeed() % 2**64,
                initial_codebooks=None if initial is None else levels_of(initial),
                init_mode=self.getOrDefault(self.initMode),
                warmup_iter=self.getOrDefault(self.warmupIter),
                spherical=self.getOrDefault(self.spherical),
                max_load=self.getOrDefault(self.maxLoad),
                capacity=self.getOrDefault(self.capacity),
            )
            codebooks, summary = fit_levels(files, settings)
        finally:
            files.close()
        return self._copyValues(ResidualKMeansModel(pad_levels(codebooks), summary))

    def _check_rows(self, facts: Facts) -> None:
        """Refuse rows that cannot be quantized with these params.

        Args:
            facts: Facts of the rows, counted in one pass.

        Raises:
            ValueError: There are too few rows, or rows have bad values, or another shape than the initial codebooks.
        """
        name, sizes, rows = self.getInputCol(), self.getCodebookSizes(), facts.rows
        if rows == 0:
            raise ValueError(f"DataFrame has 0 rows, must have at least codebookSize = {sizes[0]}. Check its filters.")
        check_facts(facts, name)
        if facts.zero_rows and (self.getOrDefault(self.zeroVectors) == "error" or self.getOrDefault(self.spherical)):
            bad = f"{name} is all zeros in {facts.zero_rows} of {rows} rows"
            raise ValueError(f"{bad}, must have a direction. Drop these rows, or set zeroVectors to keep.")
        self.check_weights(facts)
        if max(sizes) > rows:
            raise ValueError(f"codebookSize is {max(sizes)}, must be at most the number of rows, {rows}. Lower it.")
        initial = self.getInitialCodebooks()
        expected = (len(sizes), max(sizes), facts.max_dim)
        if initial is not None and (initial.shape != expected or level_sizes(initial) != sizes):
            raise ValueError(
                f"initialCodebooks has shape {initial.shape}, must be (numLevels, codebookSize, dimension) = "
                f"{expected}. Pass the codebooks of a fit with the same settings and encoder."
            )


class ResidualKMeansModel(Model, EmbeddingColumns, HasDevice, MLReadable, MLWritable):
    """Quantizes embeddings level by level with fitted codebooks.

    A row has the same codes on every CPU and for any partitioning, whether or not the fit saw it.

    Attributes:
        codebooks: Codebooks (L, K, D) float32. If ``codebookSizes`` differ, smaller levels end in rows of NaN.
        training_summary: One dict per level, see ``fit_levels``; empty for codebooks that were not fitted here.

    Example: ::

        model = ResidualKMeansModel.from_codebooks(codebooks)  # (L, K, D)
        codes = model.transform(embeddings).select("item_id", "rq_codes")
    """

    def __init__(
        self, codebooks: np.ndarray | None = None, training_summary: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__()
        self.codebooks: np.ndarray = np.empty((0, 0, 0), np.float32) if codebooks is None else codebooks
        self.training_summary: list[dict[str, Any]] = training_summary or []

    @property
    def level_sizes(self) -> list[int]:
        """Number of centroids K of each level."""
        return level_sizes(self.codebooks)

    @classmethod
    def from_codebooks(
        cls, codebooks: np.ndarray | list, *, inputCol: str = "embedding", outputCol: str = "rq_codes"
    ) -> ResidualKMeansModel:
        """Return a model of given codebooks, for example those of an artifact.

        Args:
            codebooks: Codebooks (L, K, D), finite except for the padding of smaller levels; stored as float32.
            inputCol: Name of the column of embeddings (D).
            outputCol: Name of the column of codes that the model adds.

        Raises:
            ValueError: The codebooks have another shape or values that are not finite.
        """
        codebooks = np.ascontiguousarray(codebooks, dtype=np.float32)
        check_codebooks(codebooks, "codebooks", "Fit them again.")
        return cls(codebooks)._set(inputCol=inputCol, outputCol=outputCol)

    @property
    def permutable_sizes(self) -> list[int]:
        """Number of centroids K of each level; the codes of all levels can be relabeled."""
        return self.level_sizes

    def level_figures(self) -> list[dict[str, Any]]:
        """Return what the fit found, one dict per level, see ``fit_levels``; an empty list for a model not fitted here."""
        return self.training_summary

    def permuted(self, labels: Sequence[np.ndarray]) -> ResidualKMeansModel:
        """Relabel codes; the model has no summary.

        Args:
            labels: Permutation (K,) of each level: ``labels[l][c]`` is the new code of centroid c of level l.
        """
        return self._with_codebooks(permute_levels(self.codebooks, labels))

    def renewed(self, level: int, means: LevelMeans) -> ResidualKMeansModel:
        """Move the centroids of one level to the best place for codes that are held; the model has no summary.

        Args:
            level: Index of the level, from 0.
            means: Means over the items that have these codes.
        """
        return self._with_codebooks(means.centroids(self.codebooks, level))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return named arrays that hold all of the model."""
        return {"codebooks": self.codebooks}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], **columns: str) -> ResidualKMeansModel:
        """Restore a model.

        Args:
            arrays: Arrays as ``to_arrays`` returned them.
            columns: ``inputCol`` and ``outputCol`` of the model.
        """
        return cls.from_codebooks(arrays["codebooks"], **columns)

    def _with_codebooks(self, codebooks: np.ndarray) -> ResidualKMeansModel:
        return self._copyValues(ResidualKMeansModel(codebooks))

    def encoder(self) -> Callable[[pa.Array], pa.Array]:
        """Return a function from B embeddings to B lists of L codes, for Spark's workers."""
        return partial(assign_batch, codebooks=self.codebooks, name=self.getInputCol(), device=self.checked_device())

    def write(self) -> MLWriter:
        """Return a writer that saves the params and codebooks."""
        return CodebooksWriter(self)

    @classmethod
    def read(cls) -> MLReader[ResidualKMeansModel]:
        """Return a reader that loads what ``write`` saved."""
        return CodebooksReader(cls)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        embeddings = self.embeddings(dataset)
        self.check_new_columns(dataset, "outputCol")
        encode = self.encoder()

        # If the codebooks are larger than 1 MiB, Spark broadcasts the function with them and frees them with the plan.
        def codes(batch: pa.Array) -> pa.Array:
            return encode(batch)

        return dataset.withColumn(self.getOutputCol(), column_function(codes, ArrayType(IntegerType()))(embeddings))
