"""The ``Warehouse`` reads and writes the Delta tables: the only file that touches Delta.

In: DataFrames. Out: Delta tables under one folder or URI. Every write is one atomic Delta commit, so that a reader
or a job killed at any moment sees either all of it or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable

from qarm_features.storage.tables import Column, Table

if TYPE_CHECKING:
    import pyarrow.dataset
    from pyspark.sql import DataFrame, SparkSession

    from qarm_features.settings.load import Settings


class TableError(ValueError):
    """A table, a column or a row that should be there is not."""


class Warehouse:
    """The Delta tables under one root.

    Args:
        root: Folder or URI.
        item_id_type: ``integer`` or ``string``; likewise ``user_id_type``.
        spark: Session for DataFrames; without it only versions, files and Arrow datasets can be had.
    """

    def __init__(self, root: str, *, item_id_type: str, user_id_type: str, spark: SparkSession | None = None):
        self.root = root.rstrip("/")
        self.spark = spark
        spark_types = {"integer": "bigint", "string": "string"}
        self._id_types = {"<item_id>": spark_types[item_id_type], "<user_id>": spark_types[user_id_type]}

    @classmethod
    def of(cls, settings: Settings, spark: SparkSession | None = None) -> Warehouse:
        """Returns the warehouse that the settings name."""
        return cls(
            settings.warehouse_path,
            item_id_type=settings.items.item_id_type,
            user_id_type=settings.interactions.user_id_type,
            spark=spark,
        )

    def path(self, table: Table) -> str:
        """Returns the folder or URI of a table."""
        return f"{self.root}/{table.name}"

    def spark_type(self, column: Column) -> str:
        """Returns a column's Spark type with the ID types filled in."""
        spark_type = column.type
        for placeholder, id_type in self._id_types.items():
            spark_type = spark_type.replace(placeholder, id_type)
        return spark_type

    def version(self, table: Table) -> int | None:
        """Returns the table's newest Delta version, or None when it does not exist."""
        return self._delta(table).version() if self.exists(table) else None

    def exists(self, table: Table) -> bool:
        """Tells whether the table has been written."""
        return DeltaTable.is_deltatable(self.path(table))

    def read(self, table: Table, *, version: int | None = None) -> DataFrame:
        """Reads a table, at a Delta version or at its newest; an optional column that it lacks is null.

        Raises:
            TableError: It does not exist.
        """
        self._require(table)
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return self._with_optional(table, reader.load(self.path(table)))

    def empty(self, table: Table) -> DataFrame:
        """Returns a DataFrame of the table's schema without rows."""
        ddl = ", ".join(f"`{column.name}` {self.spark_type(column)}" for column in table.columns)
        return self.spark.createDataFrame([], ddl)

    def read_or_empty(self, table: Table) -> DataFrame:
        """Reads a table, or returns no rows when it does not exist yet."""
        return self.read(table) if self.exists(table) else self.empty(table)

    def conform(self, table: Table, rows: DataFrame, *, fill: bool = True) -> DataFrame:
        """Selects the table's columns in its order and types; further columns are dropped, optional ones may be absent:
        they are null then, or left out where ``fill`` is false.

        Raises:
            TableError: A column is missing.
        """
        from pyspark.sql import functions as F

        rows = self._with_optional(table, rows) if fill else rows
        columns = [column for column in table.columns if not column.optional or column.name in rows.columns]
        missing = [column.name for column in columns if column.name not in rows.columns]
        if missing:
            raise TableError(f"Rows for {table.name} lack {', '.join(missing)}. Present: {', '.join(rows.columns)}.")
        return rows.select(*[F.col(f"`{c.name}`").cast(self.spark_type(c)).alias(c.name) for c in columns])

    def overwrite(
        self, table: Table, rows: DataFrame, *, where: str | None = None, made_from: Mapping[str, Any] | None = None
    ) -> None:
        """Replaces the whole table, or the rows ``where`` holds, in one commit that keeps what they were ``made_from``.

        The files lack optional columns that the rows lack: whoever reads them sees that nobody filled these.
        """
        rows = self.conform(table, rows, fill=False)
        writer = rows.write.format("delta").mode("overwrite").partitionBy(*table.partition_by)
        if made_from is not None:
            writer = writer.option("userMetadata", json.dumps(made_from))
        if where is not None and self.exists(table):
            writer = writer.option("replaceWhere", where).option("mergeSchema", "true")
        else:
            writer = writer.option("overwriteSchema", "true")
        writer.save(self.path(table))

    def made_from(self, table: Table) -> list[dict[str, Any]]:
        """Returns what was given as ``made_from`` to the commits of a table, the newest first."""
        self._require(table)
        kept = [commit.get("userMetadata") for commit in self._delta(table).history()]
        return [json.loads(metadata) for metadata in kept if metadata]

    def append(self, table: Table, rows: DataFrame) -> None:
        """Adds rows in one commit. The caller knows that their keys are new."""
        writer = self.conform(table, rows).write.format("delta").mode("append").partitionBy(*table.partition_by)
        writer.option("mergeSchema", "true").save(self.path(table))  # a table from before an optional column

    def upsert(self, table: Table, rows: DataFrame) -> None:
        """Adds rows and replaces those of the same key, in one commit. ``rows`` is read twice: persist it."""
        if not self.exists(table):
            return self.append(table, rows)
        from delta.tables import DeltaTable as SparkDeltaTable

        on = " AND ".join(f"old.{key} = new.{key}" for key in table.key)
        merge = SparkDeltaTable.forPath(self.spark, self.path(table)).alias("old")
        merge = merge.merge(self.conform(table, rows).alias("new"), on).withSchemaEvolution()
        merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()

    def files(self, table: Table, **partition: str | int) -> list[str]:
        """Returns the paths of the Parquet files that hold one partition, for readers without Spark."""
        self._require(table)
        predicate = [(name, "=", str(value)) for name, value in partition.items()]
        return sorted(self._delta(table).file_uris(file_pruning_predicate=predicate))

    def arrow(self, table: Table, *, version: int | None = None) -> pyarrow.dataset.Dataset:
        """Opens a table as a pyarrow dataset, which streams it in batches without Spark."""
        from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

        self._require(table)
        # delta-rs would lend Arrow a file system in Python; Arrow's reading threads then abort an interpreter that ends.
        local = None if "://" in self.root else SubTreeFileSystem(self.path(table), LocalFileSystem())
        return self._delta(table, version).to_pyarrow_dataset(filesystem=local)

    def _with_optional(self, table: Table, rows: DataFrame) -> DataFrame:
        from pyspark.sql import functions as F

        absent = [column for column in table.columns if column.optional and column.name not in rows.columns]
        return rows.withColumns({c.name: F.lit(None).cast(self.spark_type(c)) for c in absent}) if absent else rows

    def _delta(self, table: Table, version: int | None = None) -> DeltaTable:
        return DeltaTable(self.path(table), version=version)

    def _require(self, table: Table) -> None:
        if not self.exists(table):
            raise TableError(f"Table {table.name} does not exist in {self.root}. Run: qarm {table.written_by}")
