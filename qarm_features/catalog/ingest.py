"""The user's catalog and click log become ``items``, ``interactions`` and ``rejected_rows``.

In: Parquet, Delta, CSV, JSON Lines or a table of Spark's catalog, with the user's own column names. Out: checked rows with
the names and types of our tables. Every row that fails a check goes to ``rejected_rows`` with the reason. ::

    movie_id  name       genres         item_id  title      text
    1         Toy Story  Animation  ->  1        Toy Story  Toy Story. Animation
    null      Nameless   Drama          rejected_rows: items, {"name": "Nameless", ...}, item_id is null
    1         Toy Story  Animation      rejected_rows: items, {"movie_id": 1, ...}, item_id is a duplicate
"""

from __future__ import annotations

from typing import NamedTuple

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.checks import Check
from qarm_features.catalog.conflicts import (
    REASON,
    SAID,
    duplicate_reason,
    group_by_key,
    keep_one_per_key,
    latest_value,
    sum_of_different,
    times,
)
from qarm_features.catalog.deletions import DELETED, deleted_column
from qarm_features.catalog.event_times import order_columns, timestamp_column
from qarm_features.catalog.id_columns import id_column
from qarm_features.catalog.ingest_columns import FileState, as_text, content_columns, file_states, non_empty
from qarm_features.catalog.labels import label_column
from qarm_features.catalog.reading.read_source import read_source as read_source
from qarm_features.catalog.reading.read_source import require_columns
from qarm_features.catalog.reading.source_rows import FILE, LINE, LINES, PRIVATE, RAW, UNREADABLE
from qarm_features.catalog.reading.source_rows import IngestError as IngestError
from qarm_features.catalog.rejections import RowCounts
from qarm_features.settings.sources import InteractionSource, ItemSource
from qarm_features.storage.sql_names import column_of
from qarm_features.storage.tables import INTERACTIONS, ITEM_CONTENT, ITEMS, ORDER_IN_MOMENT, Table

_ROW = "_row"
_PREFERRED = "_preferred"
_DELETES = "_deletes"


class Checked(NamedTuple):
    """Rows of one table, split by the checks.

    Attributes:
        accepted: Rows in the form of the table.
        rejected: Rows of ``rejected_rows``.
        rows: All rows, with the private column ``LINES``.
        contradicted: Keys that came with different content, each once.
        deleted: Keys of deleted items, each once.
    """

    accepted: DataFrame
    rejected: DataFrame
    rows: DataFrame
    contradicted: DataFrame
    deleted: DataFrame

    def counts(self, table: str) -> RowCounts:
        """Return the counts of the rows, which are those of ``table``, by one pass over them."""
        found = self.rows.groupBy(REASON).agg(F.count("*").alias("rows"), F.sum(LINES).alias("lines")).collect()
        by_reason = {row[REASON]: row["rows"] for row in found}
        accepted = by_reason.pop(None, 0)
        return RowCounts(table, accepted, by_reason, sum(row["lines"] or 0 for row in found))


def check_items(raw: DataFrame, source: ItemSource, *, file_state: FileState | None = None) -> Checked:
    """Check rows of the catalog and bring them into the form of ``items``.

    Args:
        raw: Rows of the source.
        source: Section ``items`` of the settings.
        file_state: Function that takes the URI of a medium and returns the size and time of its local file as text, or None
            where there is no such file. The content hash includes them. None includes the URI alone.

    Raises:
        IngestError: The source lacks a column that the settings name.
    """
    raw = require_columns(raw, source)
    item_id, id_checks = id_column(raw, "item_id", source.item_id, source.item_id_type)
    title = F.lit(None).cast("string") if source.title is None else non_empty(as_text(raw, source.title))
    content, checks = content_columns(raw, source)
    hashes = [
        F.concat(F.lit(f"{name}:"), F.sha2(_as_bytes(name, value), 256), file_states(name, value, file_state))
        for name, value in content.items()
    ]
    preferred = _preferred(raw, source)
    deletes, deletion_checks = deleted_column(raw, source)
    present = [F.when(value.isNotNull(), True) for value in content.values()]
    checks.append((F.coalesce(*present).isNull(), "content is empty"))
    of_content = [(failed & ~deletes, reason) for failed, reason in checks]  # a deletion needs none
    rows = raw.select(
        item_id.alias("item_id"),
        title.alias("title"),
        *[content.get(name, F.lit(None)).cast(ITEMS.column(name).type).alias(name) for name in ITEM_CONTENT],
        F.sha2(F.concat_ws(",", *hashes), 256).alias("content_hash"),
        *([preferred.alias(_PREFERRED)] if preferred is not None else []),
        deletes.alias(_DELETES),
        _first_reason([*_unreadable(raw), *id_checks, *deletion_checks, *of_content]),
        *_source_row(raw),
    ).withColumn(SAID, F.struct("title", "content_hash"))
    # The title of most rows is what people wrote. Of equally many, the longest says more than "?" or "MISSING".
    size = F.length(F.concat_ws(" ", "title", "text"))
    latest = [F.col(_PREFERRED).desc_nulls_last()] if source.duplicates == "latest" else []
    first = [] if latest or preferred is None else [F.col(_PREFERRED).asc_nulls_last()]
    best_first = [*latest, F.col(_DELETES).desc(), *first, times().desc(), size.desc(), *_comparable(ITEMS)]
    return _split(group_by_key(rows, ITEMS.key), ITEMS, "item_id", best_first, deletes=F.col(_DELETES))


def check_interactions(raw: DataFrame, source: InteractionSource, *, item_id_type: str) -> Checked:
    """Check rows of the click log and bring them into the form of ``interactions``.

    Args:
        raw: Rows of the source.
        source: Section ``interactions`` of the settings.
        item_id_type: Type of item IDs, ``integer`` or ``string``.

    Raises:
        IngestError: The source lacks a column that the settings name.
    """
    raw = require_columns(raw, source)
    user_id, user_checks = id_column(raw, "user_id", source.user_id, source.user_id_type)
    item_id, item_checks = id_column(raw, "item_id", source.item_id, item_id_type)
    timestamp, timestamp_checks = timestamp_column(raw, source)
    number, label_checks = label_column(raw, source)
    order, order_checks = order_columns(raw, source)
    rows = raw.select(
        user_id.alias("user_id"),
        item_id.alias("item_id"),
        timestamp.alias("event_timestamp"),
        number.alias(SAID),
        *order,
        _first_reason([*_unreadable(raw), *user_checks, *item_checks, *timestamp_checks, *label_checks, *order_checks]),
        *_source_row(raw),
    )
    in_moment = F.col(ORDER_IN_MOMENT if order else REASON)
    latest = [in_moment.desc_nulls_last()] if source.duplicates == "latest" else []
    rows = group_by_key(rows, INTERACTIONS.key)
    total = sum_of_different(SAID, in_moment, INTERACTIONS.key) if source.duplicates == "sum" else F.col(SAID)
    rows = rows.withColumn("label", (total >= source.positive_from).cast("int"))
    return _split(rows, INTERACTIONS, "interaction", [*latest, F.col(SAID).desc(), in_moment.asc_nulls_last()])


def _unreadable(raw: DataFrame) -> list[Check]:
    return [(F.col(UNREADABLE).isNotNull(), F.col(UNREADABLE))] if UNREADABLE in raw.columns else []


def _as_bytes(name: str, value: Column) -> Column:
    return F.to_json(value) if name == "precomputed" else value


def _source_row(raw: DataFrame) -> list[Column]:
    """Return the source row, and its place. The number of bytes replaces bytes, so that no rejected image is stored again."""

    def shown(field: T.StructField) -> Column:
        value = column_of(field.name)
        is_binary = isinstance(field.dataType, T.BinaryType)
        return F.concat(F.length(value), F.lit(" bytes")).alias(field.name) if is_binary else value

    whole = [shown(field) for field in raw.schema.fields if field.name not in PRIVATE]
    row = F.col(RAW) if RAW in raw.columns else F.struct(*whole)
    places = {FILE: "string", LINE: "bigint", LINES: "int"}
    return [
        row.alias(_ROW),
        *[
            (F.col(name) if name in raw.columns else F.lit(None).cast(kind)).alias(name)
            for name, kind in places.items()
        ],
    ]


def _first_reason(checks: list[Check]) -> Column:
    return F.coalesce(*[F.when(failed, F.lit(reason)) for failed, reason in checks], F.lit(None)).alias(REASON)


def _preferred(raw: DataFrame, source: ItemSource) -> Column | None:
    """Return the column that orders the rows of an item before their content does, or None."""
    if source.duplicates == "latest" and source.latest_by is not None:
        return latest_value(raw, source.latest_by)
    has_lines = LINE in raw.columns  # Parquet, Delta and tables have no order of their rows
    return F.struct(FILE, LINE) if source.duplicates == "first" and has_lines else None


def _comparable(table: Table) -> list[Column]:
    """Return the columns without bytes and vectors, for which content_hash stands."""
    return [F.col(column.name) for column in table.columns if not column.type.startswith(("binary", "array"))]


def _split(
    rows: DataFrame, table: Table, name: str, best_first: list[Column], *, deletes: Column | None = None
) -> Checked:
    """Split rows by their reason, after all rows of a key but the best got one.

    Args:
        rows: Rows with the columns of the table, ``_reason``, ``_said`` and the source row.
        table: Table that the rows are meant for.
        name: Name of its key in the reasons.
        best_first: Order in which the rows of a key are preferred.
        deletes: Whether a row says that its key is deleted.
    """
    # Of rows that are equal in all that counts, the first of the first file is kept.
    rows = keep_one_per_key(rows, table.key, name, [*best_first, F.col(FILE), F.col(LINE)], deletes=deletes)
    rows = rows.persist(StorageLevel.DISK_ONLY)  # whole source rows in the heap would leave too little for sorts
    columns = [column.name for column in table.columns if column.name in rows.columns]
    is_struct = isinstance(rows.schema[_ROW].dataType, T.StructType)
    as_text = F.to_json(_ROW, {"ignoreNullFields": "false"}) if is_struct else F.col(_ROW)
    rejected = rows.where(F.col(REASON).isNotNull()).select(
        F.lit(table.name).alias("table"),
        as_text.alias("row"),
        F.col(REASON).alias("reason"),
        F.col(FILE).alias("file"),
        F.col(LINE).alias("line"),
    )
    contradicting = rows.where(F.col(REASON) == duplicate_reason(name, other_content=True)).select(*table.key)
    deleted = rows.where(F.col(REASON) == DELETED).select(*table.key).distinct()
    accepted = rows.where(F.col(REASON).isNull()).select(*columns)
    return Checked(accepted, rejected, rows, contradicting.distinct(), deleted)
