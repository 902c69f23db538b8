"""`ResidualKMeans` and its model on any Hadoop filesystem: params as pyspark.ml's metadata, a row per centroid as Parquet.

In: an estimator or a model. Out: a folder, and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter

_SCHEMA = "level int, centroid int, values array<float>"


class EstimatorWriter(DefaultParamsWriter):
    """Writes params; initialCodebooks as nested lists."""

    def saveImpl(self, path: str) -> None:
        params = {param.name: value for param, value in self.instance._paramMap.items()}
        if "initialCodebooks" in params:
            params["initialCodebooks"] = params["initialCodebooks"].tolist()
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, paramMap=params)


class CodebooksWriter(MLWriter):
    """Writes params and summary, and the codebooks of a model."""

    def __init__(self, instance: Any):
        super().__init__()
        self.instance = instance

    def saveImpl(self, path: str) -> None:
        summary = {"training_summary": self.instance.training_summary}
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, extraMetadata=summary)
        rows = [
            (level, centroid, values.tolist())
            for level, centroids in enumerate(self.instance.codebooks)
            for centroid, values in enumerate(centroids)
        ]
        self.sparkSession.createDataFrame(rows, _SCHEMA).write.parquet(f"{path}/codebooks")


class CodebooksReader(MLReader):
    """Reads what `CodebooksWriter` wrote into a model of a class made of codebooks and summary."""

    def __init__(self, model_class: type):
        super().__init__()
        self.model_class = model_class

    def load(self, path: str) -> Any:
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        rows = self.sparkSession.read.schema(_SCHEMA).parquet(f"{path}/codebooks")
        rows = rows.orderBy("level", "centroid").toArrow()
        levels = rows["level"].to_numpy().max() + 1
        values = rows["values"].combine_chunks().flatten().to_numpy()
        codebooks = values.reshape(levels, len(rows) // levels, -1).astype(np.float32)
        model = self.model_class(codebooks, metadata["training_summary"])
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model
