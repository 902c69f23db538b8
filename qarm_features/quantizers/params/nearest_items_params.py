"""The params of `NearestItems` and its model, in pyspark.ml's way: camelCase, with setters and getters."""

from __future__ import annotations

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasSeed
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from qarm_features.quantizers.params.residual_kmeans_params import EmbeddingColumns

_ID_TYPES = ("int", "bigint", "string")


class NearestItemsColumns(EmbeddingColumns):
    """What estimator and model share."""

    itemCol = Param(Params._dummy(), "itemCol", "the column of item IDs.", TypeConverters.toString)
    similarityCol = Param(Params._dummy(), "similarityCol", "similarities that are added.", TypeConverters.toString)
    k = Param(Params._dummy(), "k", "nearest items of an item, at least 1.", TypeConverters.toInt)
    numProbes = Param(Params._dummy(), "numProbes", "lists of a shard looked through.", TypeConverters.toInt)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(outputCol="vq_codes", itemCol="item_id", similarityCol="vq_similarities", k=25, numProbes=16)

    def setItemCol(self, value: str):
        """Sets the column of item IDs."""
        return self._set(itemCol=value)

    def setSimilarityCol(self, value: str):
        """Sets the column of similarities that the model adds."""
        return self._set(similarityCol=value)

    def setK(self, value: int):
        """Sets how many nearest items of an item are looked for."""
        return self._set(k=value)

    def setNumProbes(self, value: int):
        """Sets how many lists of a shard are looked through where the bank is searched approximately."""
        return self._set(numProbes=value)

    def getItemCol(self) -> str:
        """Returns the column of item IDs."""
        return self.getOrDefault(self.itemCol)

    def getSimilarityCol(self) -> str:
        """Returns the column of similarities."""
        return self.getOrDefault(self.similarityCol)

    def getK(self) -> int:
        """Returns k."""
        return self.getOrDefault(self.k)

    def getNumProbes(self) -> int:
        """Returns the number of lists of a shard that are looked through."""
        return self.getOrDefault(self.numProbes)

    def item_ids(self, dataset: DataFrame) -> Column:
        """Returns the column of item IDs; refuses a missing one and other types."""
        name = self.getItemCol()
        if name not in dataset.columns:
            present = ", ".join(dataset.columns)
            raise ValueError(f"itemCol is {name}, must be a column of the DataFrame. Present: {present}.")
        kind = dataset.schema[name].dataType.simpleString()
        if kind not in _ID_TYPES:
            raise ValueError(f"itemCol {name} is {kind}, must be one of {', '.join(_ID_TYPES)}. Cast it.")
        return F.col(f"`{name}`").alias("item_id")

    def check_counts(self, *names: str) -> None:
        """Refuses params of these names that are below 1.

        Raises:
            ValueError: One is.
        """
        for name in names:
            if (value := self.getOrDefault(name)) < 1:
                raise ValueError(f"{name} is {value}, must be at least 1.")


class NearestItemsParams(NearestItemsColumns, HasSeed):
    """The params of the estimator, see there."""

    exactUpTo = Param(Params._dummy(), "exactUpTo", "rows up to which all are compared.", TypeConverters.toInt)
    shardRows = Param(Params._dummy(), "shardRows", "items in a shard, at least 1.", TypeConverters.toInt)
    bankPath = Param(Params._dummy(), "bankPath", "folder of the bank.", TypeConverters.toString)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(exactUpTo=200_000, shardRows=65_536, bankPath="", seed=0)

    def setExactUpTo(self, value: int):
        """Sets the number of items up to which every item is compared with every other."""
        return self._set(exactUpTo=value)

    def setShardRows(self, value: int):
        """Sets the number of items in a shard."""
        return self._set(shardRows=value)

    def setBankPath(self, value: str):
        """Sets the folder of the bank."""
        return self._set(bankPath=value)

    def setSeed(self, value: int):
        """Sets the seed."""
        return self._set(seed=value)

    def getExactUpTo(self) -> int:
        """Returns the number of items up to which every item is compared with every other."""
        return self.getOrDefault(self.exactUpTo)

    def getShardRows(self) -> int:
        """Returns the number of items in a shard."""
        return self.getOrDefault(self.shardRows)

    def getBankPath(self) -> str:
        """Returns the folder of the bank, empty for a temporary one."""
        return self.getOrDefault(self.bankPath)
