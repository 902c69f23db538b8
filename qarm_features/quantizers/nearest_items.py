"""The k nearest items of every item, whose IDs are its VQ codes.

In: item IDs and a column of embeddings, array<float>, array<double> or a pyspark.ml vector. Out: the IDs of the k items of a
frozen bank with the largest inner products, in descending order, and these products::

    item_id  embedding            item_id  embedding    vq_codes  vq_similarities
    7        [0.6, 0.8]     ->    7        [0.6, 0.8]   [8, 9]    [0.8, -0.6]
    8        [0.0, 1.0]           8        [0.0, 1.0]   [7, 9]    [0.8, 0.0]
    9        [-1.0, 0.0]          9        [-1.0, 0.0]  [8, 7]    [0.0, -0.6]

Source: QARM, arXiv 2411.11739, section 3.2: the VQ code.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame

from qarm_features.quantizers.nearest_items_model import NearestItemsModel, local_folder
from qarm_features.quantizers.params.nearest_items_params import NearestItemsParams
from qarm_features.quantizers.passes.bank_rows import BankFacts, describe_rows, write_shards
from qarm_features.quantizers.passes.embedding_batches import check_facts
from qarm_features.quantizers.passes.item_bank import Bank, ShardFacts
from qarm_features.storage.objects import SCHEMES, ObjectPath, any_path

REMOTE = tuple(f"{scheme}://" for scheme in SCHEMES)


class NearestItems(Estimator["NearestItemsModel"], NearestItemsParams, DefaultParamsReadable, DefaultParamsWritable):
    """Freezes the rows of a DataFrame as a bank on disk, in which the model finds nearest items.

    A bank of at most ``exactUpTo`` rows is searched exactly. A larger one is searched through faiss's inverted lists of each
    shard. Their recall, compared with the exact search, is measured on 1,000 items and stands in the model's
    ``training_summary``. The same rows and seed give the same bank and the same nearest items, for any partitions and row
    order.

    Args:
        inputCol: Name of the column of embeddings (D), default "embedding". With unit L2 norm, inner products are cosines.
        outputCol: Name of the column of item IDs that the model adds, default "vq_codes".
        itemCol: Name of the column of item IDs, int, bigint or string, default "item_id".
        similarityCol: Name of the column of inner products that the model adds, default "vq_similarities".
        k: Number of nearest items of an item, at least 1, default 25.
        exactUpTo: Number of rows up to which the search compares all rows, at least 0, default 200,000.
        numProbes: Number of lists of a shard that an approximate search reads, at least 1, default 16. A shard has about
            2 sqrt(rows) lists.
        shardRows: Number of rows in a shard, which one task writes, at least 1, default 65,536.
        bankPath: Path of a new or empty folder that the driver and every executor can reach, or a URI such as
            ``s3://bucket/bank``, from which every machine fetches the bank once. By default a temporary folder
            on this machine, which is removed when the process ends.
        seed: Seed for training the lists and for measuring their recall, any integer, default 0.

    Source: QARM, arXiv 2411.11739, section 3.2.

    Example: ::

        model = NearestItems(k=25, bankPath="/shared/bank").fit(embeddings)  # item_id, embedding
        codes = model.transform(embeddings)  # adds vq_codes: 25 item IDs, and vq_similarities
    """

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str = "embedding",
        outputCol: str = "vq_codes",
        itemCol: str = "item_id",
        similarityCol: str = "vq_similarities",
        k: int = 25,
        exactUpTo: int = 200_000,
        numProbes: int = 16,
        shardRows: int = 65_536,
        bankPath: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **params: Any) -> NearestItems:
        """Set any of the constructor's arguments."""
        return self._set(**self._input_kwargs)

    def _fit(self, dataset: DataFrame) -> NearestItemsModel:
        self.check_counts("k", "numProbes", "shardRows")
        if self.getExactUpTo() < 0:
            raise ValueError(f"exactUpTo is {self.getExactUpTo()}, must be at least 0.")
        rows = dataset.select(self.item_ids(dataset), self.embeddings(dataset).cast("array<float>").alias("embedding"))
        folder, began = self._folder(), time.perf_counter()
        facts = describe_rows(rows)
        self._check_rows(facts)
        exact = facts.rows <= self.getExactUpTo()
        seed = None if exact else self.getSeed() % 2**31
        shards = write_shards(rows, folder, num_rows=facts.rows, shard_rows=self.getShardRows(), seed=seed)
        self._check_ids(shards)
        kind = rows.schema["item_id"].dataType.simpleString()
        bank = Bank.create(folder, shards, dim=facts.max_dim, item_id_type=kind, exact=exact)
        model = self._copyValues(NearestItemsModel(bank))
        recall = None if exact else model.measure_recall(dataset, seed=self.getSeed())
        model.training_summary = {
            "rows": facts.rows,
            "shards": len(shards),
            "exact": exact,
            "recall": recall,
            "seconds": round(time.perf_counter() - began, 3),
        }
        return model

    def _folder(self) -> str:
        """Return the path of the new folder of the bank.

        Raises:
            ValueError: The folder holds something, or cannot be mapped into memory.
        """
        path = self.getBankPath()
        if not path:
            path = tempfile.mkdtemp(prefix="qarm-bank-")
            atexit.register(shutil.rmtree, path, ignore_errors=True)
        folder = any_path(path) if path.startswith(REMOTE) else local_folder(path, "bankPath")
        if isinstance(folder, ObjectPath):
            is_empty = next(folder.objects(), None) is None
        else:
            is_empty = not folder.exists() or not any(folder.iterdir())
        if not is_empty:
            raise ValueError(
                f"bankPath is {path}, must be a new or empty folder, because a bank never changes. Name another one."
            )
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def _check_rows(self, facts: BankFacts) -> None:
        """Refuse rows that cannot make a bank.

        Args:
            facts: Facts of the rows, counted in one pass.

        Raises:
            ValueError: There are no rows, or rows have no ID or bad values.
        """
        name, item = self.getInputCol(), self.getItemCol()
        if facts.rows == 0:
            raise ValueError("DataFrame has 0 rows, must have at least 1. Check its filters.")
        if facts.null_ids:
            raise ValueError(f"{item} is null in {facts.null_ids} of {facts.rows} rows, must be set. Drop these rows.")
        check_facts(facts, name)

    def _check_ids(self, shards: list[ShardFacts]) -> None:
        """Refuse items that have more than one row; equal IDs always lie in one shard.

        Args:
            shards: Facts of each shard.

        Raises:
            ValueError: An item ID repeats.
        """
        repeated = sum(shard.repeated_ids for shard in shards)
        if repeated:
            raise ValueError(
                f"{self.getItemCol()} repeats in {repeated} rows, must be unique. Keep one row of each item."
            )
