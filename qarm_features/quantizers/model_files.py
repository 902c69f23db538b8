"""Saving and loading of quantizers on any Hadoop file system.

In: an estimator or a model. Out: a folder with params and summary as pyspark.ml's metadata, and codebooks or arrays as
Parquet; and the estimator or model from that folder.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter

_CODEBOOKS = "level int, centroid int, values array<float>"
_ARRAYS = "name string, shape array<int>, values array<double>"


class EstimatorWriter(DefaultParamsWriter):
    """Writes the params of ``ResidualKMeans``, ``initialCodebooks`` as nested lists."""

    def saveImpl(self, path: str) -> None:
        """Write the folder ``path``."""
        params = {param.name: value for param, value in self.instance._paramMap.items()}
        if "initialCodebooks" in params:
            params["initialCodebooks"] = params["initialCodebooks"].tolist()
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, paramMap=params)


class _ModelWriter(MLWriter):
    """Writes the params and summary of a model, and the ``rows`` that hold the rest of it.

    Attributes:
        folder: Name of the folder of the rows.
        schema: Schema of the rows, in Spark's DDL.
    """

    folder: ClassVar[str]
    schema: ClassVar[str]

    def __init__(self, instance: Any) -> None:
        super().__init__()
        self.instance = instance

    def rows(self) -> list[tuple]:
        """Return the rows of the model."""
        raise NotImplementedError

    def saveImpl(self, path: str) -> None:
        """Write the folder ``path``."""
        summary = {"training_summary": self.instance.training_summary}
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, extraMetadata=summary)
        self.sparkSession.createDataFrame(self.rows(), self.schema).write.parquet(f"{path}/{self.folder}")


class _ModelReader(MLReader):
    """Reads what a ``_ModelWriter`` wrote into a model of a given class."""

    def __init__(self, model_class: Any) -> None:
        super().__init__()
        self.model_class = model_class

    def model(self, path: str) -> Any:
        """Return the model in the folder ``path`` without its params."""
        raise NotImplementedError

    def load(self, path: str) -> Any:
        """Return the model in the folder ``path`` with its params and summary."""
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        model = self.model(path)
        model.training_summary = metadata["training_summary"]
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model


class CodebooksWriter(_ModelWriter):
    """Writes a model that consists of codebooks (L, K, D), one row per centroid."""

    folder, schema = "codebooks", _CODEBOOKS

    def rows(self) -> list[tuple]:
        """Return level, centroid and values of each centroid."""
        return [
            (level, centroid, values.tolist())
            for level, centroids in enumerate(self.instance.codebooks)
            for centroid, values in enumerate(centroids)
        ]


class CodebooksReader(_ModelReader):
    """Reads what ``CodebooksWriter`` wrote."""

    def model(self, path: str) -> Any:
        """Return the model in the folder ``path`` without its params."""
        rows = self.sparkSession.read.schema(_CODEBOOKS).parquet(f"{path}/codebooks")
        rows = rows.orderBy("level", "centroid").toArrow()
        levels = rows["level"].to_numpy().max() + 1
        values = rows["values"].combine_chunks().flatten().to_numpy()
        return self.model_class(values.reshape(levels, len(rows) // levels, -1).astype(np.float32))


class ArraysWriter(_ModelWriter):
    """Writes a model that consists of a few arrays, see its ``to_arrays``, one row per array."""

    folder, schema = "arrays", _ARRAYS

    def rows(self) -> list[tuple]:
        """Return name, shape and values of each array."""
        arrays = self.instance.to_arrays()
        return [(name, list(array.shape), array.astype(float).ravel().tolist()) for name, array in arrays.items()]


class ArraysReader(_ModelReader):
    """Reads what ``ArraysWriter`` wrote, by the ``from_arrays`` of the class."""

    def model(self, path: str) -> Any:
        """Return the model in the folder ``path`` without its params."""
        rows = self.sparkSession.read.schema(_ARRAYS).parquet(f"{path}/arrays").collect()  # one row per array
        return self.model_class.from_arrays(
            {row["name"]: np.array(row["values"]).reshape(row["shape"]) for row in rows}
        )
