"""One ``Table`` per Delta table, and the ``Warehouse`` that reads and writes them: the only file that touches Delta.

In: DataFrames. Out: Delta tables under one folder or URI. Every write is one atomic Delta commit, so that a reader
or a job killed at any moment sees either all of it or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltalake import DeltaTable

if TYPE_CHECKING:
    import pyarrow.dataset
    from pyspark.sql import DataFrame, SparkSession

    from qarm_features.settings import Settings


class TableError(ValueError):
    """A table, a column or a row that should be there is not."""


@dataclass(frozen=True)
class Column:
    """A column: its Spark type, where ``<item_id>`` and ``<user_id>`` stand for the ID types of the settings."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True)
class Table:
    """A Delta table: a row per ``key``, the job that writes it, and what each column means."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    written_by: str
    doc: str
    partition_by: tuple[str, ...] = ()

    def column(self, name: str) -> Column:
        """Returns the column called ``name``."""
        return next(column for column in self.columns if column.name == name)


_ITEM_ID = Column("item_id", "<item_id>", "The item, as the catalog names it.")
_USER_ID = Column("user_id", "<user_id>", "The user, as the click log names them.")
_ENCODER_VERSION = Column("encoder_version", "int", "The encoder that made the embedding, from 0.")
_CODEBOOK_VERSION = Column("codebook_version", "int", "The codebooks that the codes belong to, from 0.")

ITEMS = Table(
    "items",
    ("item_id",),
    (
        _ITEM_ID,
        Column("title", "string", "What a person is shown; may be null."),
        Column("text", "string", "What the text encoder reads; null where the item has none."),
        Column("image", "binary", "JPEG, PNG or WebP; null where none or where image_uri says where it lies."),
        Column("image_uri", "string", "Where the image lies, under encoder.media_roots."),
        Column("audio", "binary", "WAV, FLAC or OGG; null where none or where audio_uri says where it lies."),
        Column("audio_uri", "string", "Where the audio lies, under encoder.media_roots."),
        Column("precomputed", "array<float>", "A vector of the user's own, of items.precomputed_dim numbers."),
        Column("content_hash", "string", "SHA-256 of the content; an unchanged item is not encoded again."),
    ),
    "ingest-catalog",
    "The catalog.",
)
ITEM_CONTENT = ("text", "image", "image_uri", "audio", "audio_uri", "precomputed")  # what encoders read of an item
INTERACTIONS = Table(
    "interactions",
    ("user_id", "item_id", "event_timestamp"),
    (
        _USER_ID,
        _ITEM_ID,
        Column("event_timestamp", "timestamp", "When it happened, UTC."),
        Column("label", "int", "1 positive, 0 negative."),
    ),
    "ingest-catalog",
    "The click log: labelled impressions.",
)
ITEM_PAIRS = Table(
    "item_pairs",
    ("trigger_item_id", "target_item_id", "source"),
    (
        Column("trigger_item_id", "<item_id>", "An item of the user's past."),
        Column("target_item_id", "<item_id>", "The item that users find similar to it."),
        Column(
            "source", "string", "item-to-item (Swing) or user-to-item (most similar among a user's latest positives)."
        ),
        Column("weight", "double", "Above 0: Swing's score, or the number of users who made the pair."),
        Column("event_timestamp", "timestamp", "The latest interaction that supports the pair."),
    ),
    "mine-item-pairs",
    "Positive pairs that align the item encoder.",
    partition_by=("source",),
)
REJECTED_ROWS = Table(
    "rejected_rows",
    (),
    (
        Column("table", "string", "The table that the row was meant for."),
        Column("row", "string", "The row as it came, as JSON."),
        Column("reason", "string", "Why it was rejected."),
    ),
    "ingest-catalog",
    "Rows that could not be used. Rows in = rows out + rows rejected.",
    partition_by=("table",),
)
ITEM_EMBEDDINGS = Table(
    "item_embeddings",
    ("item_id", "encoder_version"),
    (
        _ITEM_ID,
        Column("embedding", "array<float>", "(D,), unit L2 norm."),
        Column("content_hash", "string", "Of the content that was encoded."),
        _ENCODER_VERSION,
    ),
    "embed-items",
    "Item embeddings by encoder version.",
    partition_by=("encoder_version",),
)
ITEM_SEMANTIC_IDS = Table(
    "item_semantic_ids",
    ("item_id", "codebook_version"),
    (
        _ITEM_ID,
        Column("rq_codes", "array<int>", "The semantic ID: L codes in [0, K)."),
        _CODEBOOK_VERSION,
        _ENCODER_VERSION,
        Column("event_timestamp", "timestamp", "1970-01-01: a semantic ID holds for every time of its item."),
    ),
    "assign-semantic-ids",
    "Semantic IDs by codebook version. A row once written never changes.",
    partition_by=("codebook_version",),
)
USER_BEHAVIOR = Table(
    "user_behavior",
    ("user_id", "event_timestamp"),
    (
        _USER_ID,
        Column("behavior_item_ids", "array<<item_id>>", "The latest T positive items, the latest last."),
        Column("behavior_timestamps", "array<bigint>", "Their times, seconds since 1970."),
        Column(
            "event_timestamp", "timestamp", "One microsecond after the last of them: a join at t sees only before t."
        ),
    ),
    "build-user-behavior",
    "A row for every moment at which a user's behaviour sequence changed.",
)
TRAINING_ROWS = Table(
    "training_rows",
    ("user_id", "item_id", "event_timestamp", "codebook_version"),
    (
        _USER_ID,
        _ITEM_ID,
        Column("event_timestamp", "timestamp", "When the item was shown."),
        Column("label", "int", "1 positive, 0 negative."),
        Column("item_codes", "array<int>", "The target's L codes; null where it has none."),
        Column("behavior_item_ids", "array<<item_id>>", "The user's latest items strictly before; null where none."),
        Column("behavior_codes", "array<int>", "Their codes, flattened, L per item, -1 where an item has none."),
        Column("split", "string", "train, valid or test, by time."),
        _CODEBOOK_VERSION,
    ),
    "build-training-set",
    "Labelled impressions with the features as they were at that time.",
    partition_by=("codebook_version", "split"),
)
TABLES = (
    ITEMS,
    INTERACTIONS,
    REJECTED_ROWS,
    ITEM_PAIRS,
    ITEM_EMBEDDINGS,
    ITEM_SEMANTIC_IDS,
    USER_BEHAVIOR,
    TRAINING_ROWS,
)


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
        """Reads a table, at a Delta version or at its newest.

        Raises:
            TableError: It does not exist.
        """
        self._require(table)
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return reader.load(self.path(table))

    def empty(self, table: Table) -> DataFrame:
        """Returns a DataFrame of the table's schema without rows."""
        ddl = ", ".join(f"`{column.name}` {self.spark_type(column)}" for column in table.columns)
        return self.spark.createDataFrame([], ddl)

    def read_or_empty(self, table: Table) -> DataFrame:
        """Reads a table, or returns no rows when it does not exist yet."""
        return self.read(table) if self.exists(table) else self.empty(table)

    def conform(self, table: Table, rows: DataFrame) -> DataFrame:
        """Selects the table's columns in its order and types; further columns are dropped.

        Raises:
            TableError: A column is missing.
        """
        from pyspark.sql import functions as F

        missing = [column.name for column in table.columns if column.name not in rows.columns]
        if missing:
            raise TableError(f"Rows for {table.name} lack {', '.join(missing)}. Present: {', '.join(rows.columns)}.")
        return rows.select(*[F.col(f"`{c.name}`").cast(self.spark_type(c)).alias(c.name) for c in table.columns])

    def overwrite(self, table: Table, rows: DataFrame, *, where: str | None = None) -> None:
        """Replaces the whole table, or the rows ``where`` holds, in one commit."""
        writer = self.conform(table, rows).write.format("delta").mode("overwrite").partitionBy(*table.partition_by)
        if where is not None and self.exists(table):
            writer = writer.option("replaceWhere", where)
        else:
            writer = writer.option("overwriteSchema", "true")
        writer.save(self.path(table))

    def append(self, table: Table, rows: DataFrame) -> None:
        """Adds rows in one commit. The caller knows that their keys are new."""
        rows = self.conform(table, rows)
        rows.write.format("delta").mode("append").partitionBy(*table.partition_by).save(self.path(table))

    def upsert(self, table: Table, rows: DataFrame) -> None:
        """Adds rows and replaces those of the same key, in one commit. ``rows`` is read twice: persist it."""
        if not self.exists(table):
            return self.append(table, rows)
        from delta.tables import DeltaTable as SparkDeltaTable

        on = " AND ".join(f"old.{key} = new.{key}" for key in table.key)
        merge = SparkDeltaTable.forPath(self.spark, self.path(table)).alias("old")
        merge = merge.merge(self.conform(table, rows).alias("new"), on)
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

    def _delta(self, table: Table, version: int | None = None) -> DeltaTable:
        return DeltaTable(self.path(table), version=version)

    def _require(self, table: Table) -> None:
        if not self.exists(table):
            raise TableError(f"Table {table.name} does not exist in {self.root}. Run: qarm {table.written_by}")
