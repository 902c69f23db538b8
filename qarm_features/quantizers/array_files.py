"""A quantizer that is a few arrays, on any Hadoop filesystem: params as pyspark.ml's metadata, a row per array as Parquet.

In: a model with ``to_arrays``, ``from_arrays`` and ``training_summary``. Out: a folder, and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter

_SCHEMA = "name string, shape array<int>, values array<double>"


class ArraysWriter(MLWriter):
    """Writes params, summary and arrays of a model."""

    def __init__(self, instance: Any):
        super().__init__()
        self.instance = instance

    def saveImpl(self, path: str) -> None:
        summary = {"training_summary": self.instance.training_summary}
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, extraMetadata=summary)
        arrays = self.instance.to_arrays()
        rows = [(name, list(array.shape), array.astype(float).ravel().tolist()) for name, array in arrays.items()]
        self.sparkSession.createDataFrame(rows, _SCHEMA).write.parquet(f"{path}/arrays")


class ArraysReader(MLReader):
    """Reads what `ArraysWriter` wrote into a model of a class."""

    def __init__(self, model_class: type):
        super().__init__()
        self.model_class = model_class

    def load(self, path: str) -> Any:
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        rows = self.sparkSession.read.schema(_SCHEMA).parquet(f"{path}/arrays").collect()  # one row per array
        model = self.model_class.from_arrays(
            {row["name"]: np.array(row["values"]).reshape(row["shape"]) for row in rows}
        )
        model.training_summary = metadata["training_summary"]
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model
