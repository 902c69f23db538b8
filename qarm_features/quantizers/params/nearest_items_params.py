"""The params of ``NearestItems`` and its model, in camelCase with setters and getters, as pyspark.ml names params.

In: values that a user sets. Out: checked values, and the columns of a DataFrame that the params name.
"""

from __future__ import annotations

from typing import Self

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasSeed
from pyspark.sql import Column, DataFrame

from qarm_features.quantizers.params.residual_kmeans_params import EmbeddingColumns
from qarm_features.storage.sql_names import column_of

_ID_TYPES = ("int", "bigint", "string")


class NearestItemsColumns(EmbeddingColumns):
    """The params that the estimator and the model share."""

    itemCol = Param(Params._dummy(), "itemCol", "Name of the column of item IDs.", TypeConverters.toString)
    similarityCol = Param(
        Params._dummy(), "similarityCol", "Name of the added column of similarities.", TypeConverters.toString
    )
    k = Param(Params._dummy(), "k", "Number of nearest items of an item, at least 1.", TypeConverters.toInt)
    numProbes = Param(Params._dummy(), "numProbes", "Number of lists of a shard to search.", TypeConverters.toInt)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(outputCol="vq_codes", itemCol="item_id", similarityCol="vq_similarities", k=25, numProbes=16)

    def setItemCol(self, value: str) -> Self:
        """Set the name of the column of item IDs."""
        return self._set(itemCol=value)

    def setSimilarityCol(self, value: str) -> Self:
        """Set the name of the column of similarities that the model adds."""
        return self._set(similarityCol=value)

    def setK(self, value: int) -> Self:
        """Set the number of nearest items of an item."""
        return self._set(k=value)

    def setNumProbes(self, value: int) -> Self:
        """Set the number of lists of a shard that an approximate search reads."""
        return self._set(numProbes=value)

    def getItemCol(self) -> str:
        """Return the name of the column of item IDs."""
        return self.getOrDefault(self.itemCol)

    def getSimilarityCol(self) -> str:
        """Return the name of the column of similarities."""
        return self.getOrDefault(self.similarityCol)

    def getK(self) -> int:
        """Return the number of nearest items of an item."""
        return self.getOrDefault(self.k)

    def getNumProbes(self) -> int:
        """Return the number of lists of a shard that an approximate search reads."""
        return self.getOrDefault(self.numProbes)

    def item_ids(self, dataset: DataFrame) -> Column:
        """Return the column of item IDs.

        Raises:
            ValueError: The column is missing, or is neither int, bigint nor string.
        """
        name = self.getItemCol()
        if name not in dataset.columns:
            present = ", ".join(dataset.columns)
            raise ValueError(f"itemCol is {name}, must be a column of the DataFrame. Present: {present}.")
        kind = dataset.schema[name].dataType.simpleString()
        if kind not in _ID_TYPES:
            raise ValueError(f"itemCol {name} is {kind}, must be one of {', '.join(_ID_TYPES)}. Cast it.")
        return column_of(name).alias("item_id")

    def check_counts(self, *names: str) -> None:
        """Refuse params that are below 1.

        Args:
            names: Names of the params to check.

        Raises:
            ValueError: One of the params is below 1.
        """
        for name in names:
            if (value := self.getOrDefault(name)) < 1:
                raise ValueError(f"{name} is {value}, must be at least 1.")


class NearestItemsParams(NearestItemsColumns, HasSeed):
    """The params of the estimator ``NearestItems``, which explains them."""

    exactUpTo = Param(
        Params._dummy(), "exactUpTo", "Number of rows up to which the search is exact.", TypeConverters.toInt
    )
    shardRows = Param(Params._dummy(), "shardRows", "Number of items in a shard, at least 1.", TypeConverters.toInt)
    bankPath = Param(Params._dummy(), "bankPath", "Folder of the bank.", TypeConverters.toString)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(exactUpTo=200_000, shardRows=65_536, bankPath="", seed=0)

    def setExactUpTo(self, value: int) -> Self:
        """Set the number of items up to which the search compares all items with each other."""
        return self._set(exactUpTo=value)

    def setShardRows(self, value: int) -> Self:
        """Set the number of items in a shard."""
        return self._set(shardRows=value)

    def setBankPath(self, value: str) -> Self:
        """Set the folder of the bank."""
        return self._set(bankPath=value)

    def setSeed(self, value: int) -> Self:
        """Set the seed for training the lists and for measuring their recall."""
        return self._set(seed=value)

    def getExactUpTo(self) -> int:
        """Return the number of items up to which the search compares all items with each other."""
        return self.getOrDefault(self.exactUpTo)

    def getShardRows(self) -> int:
        """Return the number of items in a shard."""
        return self.getOrDefault(self.shardRows)

    def getBankPath(self) -> str:
        """Return the folder of the bank, or an empty string for a temporary one."""
        return self.getOrDefault(self.bankPath)
