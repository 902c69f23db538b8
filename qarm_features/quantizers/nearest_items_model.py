"""The model of ``NearestItems``, which queries a frozen bank.

In: item IDs and embeddings. Out: the IDs of the k nearest items of the bank and their similarities.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.ml import Model
from pyspark.ml.util import (
    DefaultParamsReader,
    DefaultParamsWriter,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.quantizers.params.nearest_items_params import NearestItemsColumns
from qarm_features.quantizers.passes.column_functions import column_function
from qarm_features.quantizers.passes.embedding_batches import checked_rows
from qarm_features.quantizers.passes.item_bank import Bank, find_nearest
from qarm_features.storage.sql_names import unused_name

if TYPE_CHECKING:
    from pyspark.sql._typing import UserDefinedFunctionLike

RECALL_QUERIES = 1000
_BANK = "bank"


class NearestItemsModel(Model, NearestItemsColumns, MLReadable, MLWritable):
    """Finds the nearest items of a frozen bank, for its own items and for new ones.

    An item never finds itself. If the bank has at most k other items, all of them are found. Equally near items come in the
    order of their IDs.

    Attributes:
        bank: Folder and manifest of the bank.
        training_summary: ``rows``, ``shards``, ``exact``, ``recall`` (share of the exact k nearest items that the
            approximate search found for the sample, None if the search is exact) and ``seconds``; empty for a bank that was
            not fitted here.

    Example: ::

        model = NearestItemsModel.from_bank("/shared/bank", k=25)
        codes = model.transform(new_items).select("item_id", "vq_codes", "vq_similarities")
    """

    def __init__(self, bank: Bank | None = None, training_summary: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.bank: Bank = Bank("", {}) if bank is None else bank
        self.training_summary: dict[str, Any] = training_summary or {}

    @classmethod
    def from_bank(cls, folder: str | Path, **params: Any) -> NearestItemsModel:
        """Return a model of a saved bank, for example that of an artifact.

        Args:
            folder: Folder of the bank.
            params: Any of ``inputCol``, ``outputCol``, ``itemCol``, ``similarityCol``, ``k`` and ``numProbes``.

        Raises:
            ValueError: The folder holds no bank.
        """
        return cls(Bank.open(folder))._set(**params)

    def measure_recall(self, dataset: DataFrame, *, seed: int = 0) -> float:
        """Measure which share of the exact k nearest items the approximate search finds.

        Args:
            dataset: DataFrame as ``transform`` takes it; 1,000 of its items are sampled by a hash of their ID.
            seed: Seed for the sample.

        Returns:
            Share in [0, 1] over all sampled items, 1 if the exact search finds nothing.
        """
        draw = F.xxhash64(F.lit(seed), self.item_ids(dataset))
        sample = dataset.orderBy(draw, self.item_ids(dataset)).limit(RECALL_QUERIES)
        parallelism = dataset.sparkSession.sparkContext.defaultParallelism
        sample = sample.select(self.item_ids(dataset), self.embeddings(dataset)).repartition(parallelism)
        both = self._search(sample, exact=True).withColumn("exact", F.col("found.item_ids")).drop("found")
        both = self._search(both, exact=False)
        shared = F.sum(F.size(F.array_intersect("exact", F.col("found.item_ids"))))
        (counts,) = both.agg(shared.alias("shared"), F.sum(F.size("exact")).alias("exact")).collect()
        return float(counts["shared"] / counts["exact"]) if counts["exact"] else 1.0

    def write(self) -> MLWriter:
        """Return a writer that saves the params and a copy of the bank."""
        return _ModelWriter(self)

    @classmethod
    def read(cls) -> MLReader[NearestItemsModel]:
        """Return a reader that loads what ``write`` saved."""
        return _ModelReader()

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self.check_counts("k", "numProbes")
        embeddings, item_ids = self.embeddings(dataset), self.item_ids(dataset)
        self.check_new_columns(dataset, "outputCol", "similarityCol")
        wanted, given = self.bank.manifest["item_id_type"], dataset.schema[self.getItemCol()].dataType.simpleString()
        if wanted != given:
            raise ValueError(f"itemCol {self.getItemCol()} is {given}, must be {wanted} as in the bank. Cast it.")
        found = self._nearest(self.bank.manifest["exact"])(item_ids, embeddings)
        nearest = unused_name("nearest", [*dataset.columns, self.getOutputCol(), self.getSimilarityCol()])
        rows = dataset.withColumn(nearest, found)
        codes, similarities = F.col(nearest)["item_ids"], F.col(nearest)["similarities"]
        rows = rows.withColumns({self.getOutputCol(): codes, self.getSimilarityCol(): similarities})
        return rows.drop(nearest)

    def _search(self, rows: DataFrame, *, exact: bool) -> DataFrame:
        """Add the column ``found`` to rows of ``item_id`` and ``embedding``."""
        return rows.withColumn("found", self._nearest(exact)(F.col("item_id"), F.col("embedding")))

    def _nearest(self, exact: bool) -> UserDefinedFunctionLike:
        """Return a function of columns, from item IDs and embeddings to structs of IDs and similarities."""
        bank, k, name, item = self.bank, self.getK(), self.getInputCol(), self.getItemCol()
        num_probes = None if exact else self.getNumProbes()

        def nearest(item_ids: pa.Array, embeddings: pa.Array) -> pa.Array:
            if item_ids.null_count:
                raise ValueError(
                    f"{item} is null in {item_ids.null_count} rows of a batch, must be set. Drop these rows."
                )
            matrix = checked_rows(embeddings, bank.manifest["dim"], name, "in the bank")
            return find_nearest(bank, item_ids, matrix, k=k, num_probes=num_probes)

        kind = f"item_ids array<{bank.manifest['item_id_type']}>, similarities array<float>"
        return column_function(nearest, kind)


def local_folder(path: str, name: str) -> Path:
    """Return a path without the prefix ``file:``.

    Args:
        path: Path that a user named.
        name: Name of the param, for the error.

    Raises:
        ValueError: The path lies on another file system, which cannot be mapped into memory.

    Example:
        >>> str(local_folder("file:///shared/bank", "bankPath"))
        '/shared/bank'
    """
    if "://" in path and not path.startswith("file:"):
        raise ValueError(f"{name} is {path}, must be a folder that every executor mounts. A bank is memory-mapped.")
    return Path(path.removeprefix("file://").removeprefix("file:"))


class _ModelWriter(MLWriter):
    """Writes params and summary as pyspark.ml's metadata, and a copy of the bank beside them."""

    def __init__(self, instance: NearestItemsModel) -> None:
        super().__init__()
        self.instance = instance

    def saveImpl(self, path: str) -> None:
        """Write the folder ``path``."""
        bank = local_folder(path, "path") / _BANK
        summary = {"training_summary": self.instance.training_summary}
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, extraMetadata=summary)
        shutil.copytree(self.instance.bank.local(), bank)


class _ModelReader(MLReader[NearestItemsModel]):
    """Reads what ``_ModelWriter`` wrote; the model uses the bank in that folder."""

    def load(self, path: str) -> NearestItemsModel:
        """Return the model in the folder ``path``."""
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        bank = Bank.open(local_folder(path, "path") / _BANK).verify()
        model = NearestItemsModel(bank, metadata["training_summary"])
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model
