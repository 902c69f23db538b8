"""Quantizers on any Hadoop filesystem: params and summary as pyspark.ml's metadata, codebooks or arrays as Parquet.

In: an estimator or a model. Out: a folder, and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter

_CODEBOOKS = "level int, centroid int, values array<float>"
_ARRAYS = "name string, shape array<int>, values array<double>"


class EstimatorWriter(DefaultParamsWriter):
    """Writes the params of `ResidualKMeans`; initialCodebooks as nested lists."""

    def saveImpl(self, path: str) -> None:
        params = {param.name: value for param, value in self.instance._paramMap.items()}
        if "initialCodebooks" in params:
            params["initialCodebooks"] = params["initialCodebooks"].tolist()
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, paramMap=params)


class _ModelWriter(MLWriter):
    """Writes params and summary of a model, and its ``rows``."""

    def __init__(self, instance: Any):
        super().__init__()
        self.instance = instance

    def saveImpl(self, path: str) -> None:
        summary = {"training_summary": self.instance.training_summary}
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, extraMetadata=summary)
        self.sparkSession.createDataFrame(self.rows(), self.schema).write.parquet(f"{path}/{self.folder}")


class _ModelReader(MLReader):
    """Reads what a writer wrote into a model of a class."""

    def __init__(self, model_class: type):
        super().__init__()
        self.model_class = model_class

    def load(self, path: str) -> Any:
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        model = self.model(path)
        model.training_summary = metadata["training_summary"]
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model


class CodebooksWriter(_ModelWriter):
    """Writes a model of codebooks (L, K, D), a row per centroid."""

    folder, schema = "codebooks", _CODEBOOKS

    def rows(self) -> list[tuple]:
        """Returns level, centroid and values."""
        return [
            (level, centroid, values.tolist())
            for level, centroids in enumerate(self.instance.codebooks)
            for centroid, values in enumerate(centroids)
        ]


class CodebooksReader(_ModelReader):
    """Reads what `CodebooksWriter` wrote into a class made of codebooks."""

    def model(self, path: str) -> Any:
        """Returns the model without its params."""
        rows = self.sparkSession.read.schema(_CODEBOOKS).parquet(f"{path}/codebooks")
        rows = rows.orderBy("level", "centroid").toArrow()
        levels = rows["level"].to_numpy().max() + 1
        values = rows["values"].combine_chunks().flatten().to_numpy()
        return self.model_class(values.reshape(levels, len(rows) // levels, -1).astype(np.float32))


class ArraysWriter(_ModelWriter):
    """Writes a model that is a few arrays, ``to_arrays``, a row each."""

    folder, schema = "arrays", _ARRAYS

    def rows(self) -> list[tuple]:
        """Returns name, shape and values."""
        arrays = self.instance.to_arrays()
        return [(name, list(array.shape), array.astype(float).ravel().tolist()) for name, array in arrays.items()]


class ArraysReader(_ModelReader):
    """Reads what `ArraysWriter` wrote by the ``from_arrays`` of a class."""

    def model(self, path: str) -> Any:
        """Returns the model without its params."""
        rows = self.sparkSession.read.schema(_ARRAYS).parquet(f"{path}/arrays").collect()  # one row per array
        return self.model_class.from_arrays(
            {row["name"]: np.array(row["values"]).reshape(row["shape"]) for row in rows}
        )
