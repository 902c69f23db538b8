"""The ``Warehouse`` reads and writes the Delta tables. Only it, its helpers beside it and the Spark session know Delta.

In: DataFrames. Out: Delta tables under one folder or URI. Every write is one atomic Delta commit: a reader, or a job that
is killed at any moment, sees either all of it or nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable

from qarm_features.storage.change_feed import KEPT_FEED
from qarm_features.storage.conditional_writes import Base, again_if_changed, base_of, merge_rows, only_from
from qarm_features.storage.plain_files import (
    PlainDeltaTable,
    TableError,
    commits_of,
    existing_path,
    require_plain_folder,
)
from qarm_features.storage.retention import retention_properties
from qarm_features.storage.sql_names import column_of, ddl, files_at
from qarm_features.storage.tables import FED, NAMED_BY_RELEASES, Column, Table

if TYPE_CHECKING:
    import pyarrow.dataset
    from pyspark.sql import DataFrame, SparkSession


__all__ = ["TableError", "Warehouse"]

_WITHOUT_ROWS = ("SET TBLPROPERTIES", "VACUUM START", "VACUUM END")
_COMMITS_TO_LOOK_AT = 50
_BYTES = ("numOutputBytes", "numTargetBytesAdded", "numAddedBytes")  # of a write, a merge and a rewrite of files
logger = logging.getLogger(__name__)


class Warehouse:
    """The Delta tables under one root.

    Args:
        root: Folder or URI of the tables.
        item_id_type: Type of item IDs, ``integer`` or ``string``.
        user_id_type: Type of user IDs, ``integer`` or ``string``.
        spark: Session that reads and writes DataFrames. Without it the warehouse gives versions, files and Arrow datasets.
        keep_days: Days for which new tables that releases name keep their earlier versions; None leaves Delta's own time.

    Example::

        warehouse = Warehouse("data", item_id_type="integer", user_id_type="integer", spark=spark)
        warehouse.overwrite(ITEMS, rows)
        warehouse.read(ITEMS).show()
    """

    def __init__(
        self,
        root: str,
        *,
        item_id_type: str,
        user_id_type: str,
        spark: SparkSession | None = None,
        keep_days: int | None = None,
    ) -> None:
        require_plain_folder(root)
        self.root = root.rstrip("/")
        self._spark, self._keep_days = spark, keep_days
        spark_types = {"integer": "bigint", "string": "string"}
        self._id_types = {"<item_id>": spark_types[item_id_type], "<user_id>": spark_types[user_id_type]}

    @property
    def spark(self) -> SparkSession:
        """The Spark session.

        Raises:
            TableError: The warehouse was opened without one.
        """
        if self._spark is None:
            raise TableError(
                f"The warehouse {self.root} was opened without a Spark session. To read or write DataFrames, "
                "pass spark= to Warehouse."
            )
        return self._spark

    @property
    def has_spark(self) -> bool:
        """True if the warehouse was opened with a Spark session."""
        return self._spark is not None

    def path(self, table: Table) -> str:
        """Return the folder or URI of a table."""
        return f"{self.root}/{table.name}"

    def spark_type(self, column: Column) -> str:
        """Return the Spark type of a column, with the ID types filled in."""
        spark_type = column.type
        for placeholder, id_type in self._id_types.items():
            spark_type = spark_type.replace(placeholder, id_type)
        return spark_type

    def version(self, table: Table) -> int | None:
        """Return the newest Delta version of a table, or None when the table does not exist."""
        return self._delta(table).version() if self.exists(table) else None

    def data_version(self, table: Table) -> int | None:
        """Return the newest Delta version that may hold other rows than the one before; None if there is no table.

        A commit that only sets properties, or notes a removal of old files, changes no rows.
        """
        newest = self.version(table)
        if newest is None:
            return None
        for commit in self._delta(table).history(limit=_COMMITS_TO_LOOK_AT):
            if commit.get("operation") not in _WITHOUT_ROWS:
                return int(commit.get("version", newest))
        return newest

    def written_at(self, table: Table, version: int) -> datetime | None:
        """Return the time of a Delta version in UTC, or None if the log no longer tells it.

        Args:
            table: Table that exists.
            version: Delta version.
        """
        for commit in self._delta(table).history():
            if commit.get("version") == version and "timestamp" in commit:
                return datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
        return None

    def bytes_added(self, table: Table, *, since: int) -> int:
        """Return the bytes of the files that commits added to a table, by what the commits say of themselves.

        Args:
            table: Table that exists.
            since: Delta version whose later commits count, -1 for all. Only the latest commits are looked at.
        """
        commits = self._delta(table).history(limit=_COMMITS_TO_LOOK_AT)
        later = [commit.get("operationMetrics", {}) for commit in commits if int(commit.get("version", -1)) > since]
        return sum(int(metrics.get(name, 0)) for metrics in later for name in _BYTES)

    def row_count(self, table: Table) -> int | None:
        """Return the number of rows of a table by its log alone.

        Returns:
            The number. None if the table does not exist, or if its log does not tell, as with deletion vectors.
        """
        if not self.exists(table):
            return None
        delta = PlainDeltaTable(self.path(table))
        if delta.has_deleted_rows():
            return None
        counts = pa.table(delta.get_add_actions(flatten=True)).to_pydict().get("num_records", [])
        return None if None in counts else sum(counts)

    def exists(self, table: Table) -> bool:
        """Return True if the table has been written."""
        return DeltaTable.is_deltatable(self.path(table))

    def read(self, table: Table, *, version: int | None = None) -> DataFrame:
        """Read a table at a Delta version, the newest by default. An optional column that the table lacks is null.

        Raises:
            TableError: The table does not exist, or the warehouse has no Spark session.
        """
        self._require(table)
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return self._with_optional(table, reader.load(self.path(table)))

    def empty(self, table: Table) -> DataFrame:
        """Return a DataFrame with the table's schema and no rows."""
        schema = ddl((column.name, self.spark_type(column)) for column in table.columns)
        return self.spark.createDataFrame([], schema)

    def read_or_empty(self, table: Table) -> DataFrame:
        """Read a table, or return no rows when the table does not exist yet."""
        return self.read(table) if self.exists(table) else self.empty(table)

    def conform(self, table: Table, rows: DataFrame, *, fill: bool = True) -> DataFrame:
        """Select the columns of a table, in its order and with its types. Further columns are dropped.

        Args:
            table: Table that the rows are for.
            rows: Rows with all columns of the table, except that optional ones may be absent.
            fill: Set absent optional columns to null if True. Leave them out if False.

        Raises:
            TableError: A column that is not optional is missing.
        """
        rows = self._with_optional(table, rows) if fill else rows
        columns = [column for column in table.columns if not column.optional or column.name in rows.columns]
        missing = [column.name for column in columns if column.name not in rows.columns]
        if missing:
            raise TableError(f"Rows for {table.name} lack {', '.join(missing)}. Present: {', '.join(rows.columns)}.")
        return rows.select(*[column_of(c.name).cast(self.spark_type(c)).alias(c.name) for c in columns])

    def overwrite(
        self, table: Table, rows: DataFrame, *, where: str | None = None, made_from: Mapping[str, Any] | None = None
    ) -> None:
        """Replace a whole table, or some of its rows, in one commit.

        Optional columns that ``rows`` lacks are absent from the files, so that a reader can tell that nothing filled them.

        Args:
            table: Table to write.
            rows: The new rows.
            where: SQL condition on partition columns: only rows that meet it are replaced. None replaces all rows.
            made_from: JSON values that describe the inputs of the rows. The commit stores them.
        """
        rows = self.conform(table, rows, fill=False)
        writer = rows.write.format("delta").mode("overwrite").partitionBy(*table.partition_by)
        writer = writer.options(**self._properties_of_new(table))
        if made_from is not None:
            writer = writer.option("userMetadata", json.dumps(made_from))
        if where is not None and self.exists(table):
            writer = writer.option("replaceWhere", where).option("mergeSchema", "true")
        else:
            writer = writer.option("overwriteSchema", "true")
        writer.save(self.path(table))

    def made_from(self, table: Table) -> list[dict[str, Any]]:
        """Return the ``made_from`` of all commits of a table that have one, the newest first."""
        self._require(table)
        stored = [commit.get("userMetadata") for commit in commits_of(self._delta(table), self.path(table))]
        return [json.loads(metadata) for metadata in stored if metadata]

    def base(self, table: Table, part: Mapping[str, str | int] | None = None) -> Base:
        """Return the state of a part of a table, from which new rows are computed and to which they are appended.

        Args:
            table: Table that is written.
            part: Values of partition columns, for example ``{"codebook_version": 3}``; None for the whole table.
        """
        return base_of(self.path(table), part or {})

    def read_base(self, table: Table, base: Base) -> DataFrame:
        """Read a table as it is in a base, without rows if it does not exist there."""
        return self.empty(table) if base.version is None else self.read(table, version=base.version)

    def append(
        self,
        table: Table,
        rows: DataFrame,
        *,
        base: Base | None = None,
        once: tuple[str, int] | None = None,
        fill: bool = True,
    ) -> None:
        """Add rows in one commit.

        Args:
            table: Table to write.
            rows: Rows whose keys the table does not hold.
            base: State of the part of the table from which the rows were computed. None adds them whatever others have
                written, so the caller makes sure that no other process does.
            once: Name of a writer and number of its write, without ``base``. A number that is not above the last one of
                this writer adds nothing, so that a write may be repeated.
            fill: False leaves out optional columns that ``rows`` lacks, as ``overwrite`` does.

        Raises:
            ChangedMeanwhile: Another process has written the part since ``base``. Nothing was written.
        """
        mode = "append" if base is None or base.version is not None else "errorifexists"
        # The table may have been written before an optional column was introduced.
        writer = self.conform(table, rows, fill=fill).write.format("delta").mode(mode).option("mergeSchema", "true")
        writer = writer.partitionBy(*table.partition_by).options(**self._properties_of_new(table))
        if once is not None:
            writer = writer.option("txnAppId", once[0]).option("txnVersion", str(once[1]))
        if base is None:
            return writer.save(self.path(table))
        with only_from(base) as options:
            writer.options(**options).save(self.path(table))

    def replace(self, table: Table, rows: DataFrame, *, base: Base) -> None:
        """Replace a part of a table in one commit, if it is as it is in a base.

        Raises:
            ChangedMeanwhile: Another process has written the part since ``base``. Nothing was written.
        """
        present = {field.name for field in self._delta(table).schema().fields}
        rows = self.conform(table, rows.select(*[name for name in rows.columns if name in present]), fill=False)
        writer = rows.write.format("delta").mode("overwrite").partitionBy(*table.partition_by)
        if base.part:
            writer = writer.option("replaceWhere", " AND ".join(base.conditions()))
        with only_from(base) as options:
            writer.options(**options).save(self.path(table))

    def upsert(
        self,
        table: Table,
        rows: DataFrame,
        *,
        part: Mapping[str, str | int] | None = None,
        key: tuple[str, ...] = (),
        replace: bool = True,
    ) -> None:
        """Add rows, and replace rows of the same key, in one commit. ``rows`` is read twice, so persist it before.

        Other processes may write the table at the same time: a row of one key never stands there twice.

        Args:
            table: Table to write.
            rows: Rows, no two of the same key.
            part: Values of partition columns that all rows have, so that no other part is searched for their keys.
            key: Columns that identify a row; by default the key of the table.
            replace: False keeps the rows of the same key.

        Raises:
            ChangedMeanwhile: Others wrote the part again and again.
        """
        again_if_changed(lambda: self._upsert(table, rows, key or table.key, replace, self.base(table, part)))

    def append_missing(self, table: Table, rows: DataFrame, *, part: Mapping[str, str | int] | None = None) -> None:
        """Append the rows whose key a table lacks, which is cheaper than to merge them in. A second call appends nothing.

        Args:
            table: Table to write.
            rows: Rows, no two of the same key, which Spark keeps.
            part: Values of partition columns that all rows have, so that no other part is searched for their keys.

        Raises:
            ChangedMeanwhile: Others wrote the part again and again.
        """
        again_if_changed(lambda: self._append_missing(table, rows, self.base(table, part)))

    def _append_missing(self, table: Table, rows: DataFrame, base: Base) -> None:
        from pyspark import StorageLevel

        if base.version is None:
            return self.append(table, rows, base=base)
        present = self.read_base(table, base)
        for condition in base.conditions():
            present = present.where(condition)
        missing = rows.join(present.select(*table.key), on=list(table.key), how="left_anti")
        missing = missing.persist(StorageLevel.DISK_ONLY)
        try:
            if not missing.isEmpty():
                self.append(table, missing, base=base)
        finally:
            missing.unpersist()

    def _upsert(self, table: Table, rows: DataFrame, key: tuple[str, ...], replace: bool, base: Base) -> None:
        if base.version is None:
            return self.append(table, rows, base=base)
        merge_rows(self.spark, self.conform(table, rows), base, key=key, replace=replace)

    def files(self, table: Table, **partition: str | int) -> list[str]:
        """Return the paths of the Parquet files that hold one partition, for readers without Spark.

        Rows that were deleted by a deletion vector stand in their file still. Their files are rewritten before.

        Raises:
            TableError: The table does not exist, or only Spark can read its files and the warehouse has no session.
        """
        self._require(table)
        predicate = [(name, "=", str(value)) for name, value in partition.items()]
        return sorted(map(existing_path, self._plain(table, None).file_uris(file_pruning_predicate=predicate)))

    def arrow(self, table: Table, *, version: int | None = None) -> pyarrow.dataset.Dataset:
        """Open a table as a pyarrow dataset, which streams it in batches without Spark.

        Raises:
            TableError: The table does not exist, or only Spark can read its files and the warehouse has no session or the
                version is not the newest.
        """
        from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

        self._require(table)
        # The file system that delta-rs would pass is written in Python. Arrow's reader threads that call it while the
        # interpreter shuts down abort the process, so local files are read through Arrow's own file system.
        local = None if "://" in self.root else SubTreeFileSystem(self.path(table), LocalFileSystem())
        return self._plain(table, version).to_pyarrow_dataset(filesystem=local)

    def _plain(self, table: Table, version: int | None) -> PlainDeltaTable:
        """Return a table whose files hold its rows and no others, after a rewrite of files with deleted rows."""
        delta = PlainDeltaTable(self.path(table), version=version)
        delta.require_plain_columns(table.name)
        if not delta.has_deleted_rows():
            return delta
        newest = self._delta(table).version()
        if self._spark is None or delta.version() != newest:
            raise TableError(
                f"Version {delta.version()} of {table.name} has deleted rows, which only Spark leaves out. "
                f"Run in Spark: {_purge(self.path(table))}"
            )
        logger.info("Files of %s are rewritten without the rows that were deleted from them.", table.name)
        self._spark.sql(_purge(self.path(table)))
        return PlainDeltaTable(self.path(table))

    def _with_optional(self, table: Table, rows: DataFrame) -> DataFrame:
        """Add the optional columns of a table that the rows lack, as nulls."""
        from pyspark.sql import functions as F

        absent = [column for column in table.columns if column.optional and column.name not in rows.columns]
        return rows.withColumns({c.name: F.lit(None).cast(self.spark_type(c)) for c in absent}) if absent else rows

    def _properties_of_new(self, table: Table) -> dict[str, str]:
        """Return the properties with which a table is made; none for one that exists."""
        if self.exists(table):
            return {}
        kept = self._keep_days is not None and table in NAMED_BY_RELEASES
        properties = retention_properties(self._keep_days or 0) if kept else {}
        return properties | (KEPT_FEED if table in FED else {})

    def _delta(self, table: Table, version: int | None = None) -> DeltaTable:
        return DeltaTable(self.path(table), version=version)

    def _require(self, table: Table) -> None:
        if not self.exists(table):
            raise TableError(f"Table {table.name} does not exist in {self.root}. Run: qarm {table.written_by}")


def _purge(path: str) -> str:
    """Return the SQL that rewrites the files with deleted rows."""
    return f"REORG TABLE {files_at(path)} APPLY (PURGE)"
