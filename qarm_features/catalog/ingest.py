"""The user's catalog and click log become ``items``, ``interactions`` and ``rejected_rows``.

In: Parquet, Delta, CSV, JSON Lines or a table of Spark's catalog, with the user's own column names. Out: checked rows with
the names and types of our tables. Every row that fails a check goes to ``rejected_rows`` with the reason. ::

    movie_id  name       genres         item_id  title      text
    1         Toy Story  Animation  ->  1        Toy Story  Toy Story. Animation
    null      Nameless   Drama          rejected_rows: items, {"name": "Nameless", ...}, item_id is null
    1         Toy Story  Animation      rejected_rows: items, {"movie_id": 1, ...}, item_id is a duplicate
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.ingest_columns import (
    Check,
    FileState,
    IngestError,
    TypedId,
    as_text,
    content_columns,
    file_states,
    label_column,
    non_empty,
    order_columns,
    timestamp_column,
)
from qarm_features.catalog.read_source import read_source as read_source
from qarm_features.catalog.read_source import require_columns
from qarm_features.catalog.source_rows import FILE, LINE, LINES, PRIVATE, RAW, UNREADABLE, SourceRows
from qarm_features.settings.sections import InteractionSource, ItemSource
from qarm_features.storage.tables import INTERACTIONS, ITEM_CONTENT, ITEMS, Table

_ROW = "_row"
_REASON = "_reason"


class Checked(NamedTuple):
    """Rows of one table, split by the checks.

    Attributes:
        accepted: Rows in the form of the table.
        rejected: Rows of ``rejected_rows``.
        rows: All rows, with the private column ``LINES``.
    """

    accepted: DataFrame
    rejected: DataFrame
    rows: DataFrame

    def lines(self) -> int:
        """Return the number of lines of text files that the rows stand for."""
        return self.rows.agg(F.sum(LINES)).first()[0] or 0  # type: ignore[index]  # an aggregate has one row


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
    item_id = TypedId(raw, "item_id", source.item_id, source.item_id_type)
    title = F.lit(None).cast("string") if source.title is None else non_empty(as_text(raw, source.title))
    content, checks = content_columns(raw, source)
    hashes = [
        F.concat(F.lit(f"{name}:"), F.sha2(_as_bytes(name, value), 256), file_states(name, value, file_state))
        for name, value in content.items()
    ]
    present = [F.when(value.isNotNull(), True) for value in content.values()]
    checks.append((F.coalesce(*present).isNull(), "content is empty"))
    rows = raw.select(
        item_id.value.alias("item_id"),
        title.alias("title"),
        *[content.get(name, F.lit(None)).cast(ITEMS.column(name).type).alias(name) for name in ITEM_CONTENT],
        F.sha2(F.concat_ws(",", *hashes), 256).alias("content_hash"),
        _first_reason([*_unreadable(raw), *item_id.checks, *checks]),
        *_source_row(raw),
    )
    return _split(rows, ITEMS, "item_id is a duplicate")


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
    user_id = TypedId(raw, "user_id", source.user_id, source.user_id_type)
    item_id = TypedId(raw, "item_id", source.item_id, item_id_type)
    timestamp, timestamp_checks = timestamp_column(raw, source)
    label, label_checks = label_column(raw, source)
    order, order_checks = order_columns(raw, source)
    rows = raw.select(
        user_id.value.alias("user_id"),
        item_id.value.alias("item_id"),
        timestamp.alias("event_timestamp"),
        label.alias("label"),
        *order,
        _first_reason(
            [*_unreadable(raw), *user_id.checks, *item_id.checks, *timestamp_checks, *label_checks, *order_checks]
        ),
        *_source_row(raw),
    )
    return _split(rows, INTERACTIONS, "interaction is a duplicate")


def require_few_rejected(table: Table, counts_by_reason: Mapping[str, int], rows_in: int, max_share: float) -> None:
    """Raise an error if too large a share of the rows of a table was rejected.

    Args:
        table: Table that the rows were meant for.
        counts_by_reason: Number of rejected rows by reason.
        rows_in: Number of rows of the source.
        max_share: Largest share of rejected rows, in [0, 1].

    Raises:
        IngestError: The source has no rows, or the share is above ``max_share``. The message gives the counts by reason.

    Example:
        >>> from qarm_features.storage.tables import ITEMS
        >>> require_few_rejected(ITEMS, {"item_id is null": 1}, rows_in=100, max_share=0.05)
    """
    rejected = sum(counts_by_reason.values())
    if rows_in == 0:
        raise IngestError(f"{table.name} has no rows at its source, must have at least 1. Check its path.")
    if rejected > max_share * rows_in:
        most_first = sorted(counts_by_reason.items(), key=lambda entry: -entry[1])
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in most_first)
        raise IngestError(
            f"{rejected:,} of {rows_in:,} rows of {table.name} are rejected ({rejected / rows_in:.1%}), must be at most "
            f"{max_share:.1%} (max_rejected_share). By reason: {reasons}. The rows are in rejected_rows."
        )


def require_all_lines(source: SourceRows, checked: Checked, path: str | None) -> None:
    """Raise an error if the rows do not stand for all lines of their files.

    Args:
        source: Rows of the source.
        checked: The same rows after the checks.
        path: Path of the source, for the message.

    Raises:
        IngestError: Lines are missing, or there are more than were counted.
    """
    if source.lines is not None and (lines := checked.lines()) != source.lines:
        raise IngestError(
            f"{path} has {source.lines:,} lines that hold rows, and the rows that were read stand for {lines:,}. The files "
            "changed while they were read: run the job again."
        )


def _unreadable(raw: DataFrame) -> list[Check]:
    return [(F.col(UNREADABLE).isNotNull(), F.col(UNREADABLE))] if UNREADABLE in raw.columns else []


def _as_bytes(name: str, value: Column) -> Column:
    return F.to_json(value) if name == "precomputed" else value


def _source_row(raw: DataFrame) -> list[Column]:
    """Return the source row, and its place. The number of bytes replaces bytes, so that no rejected image is stored again."""

    def shown(field: T.StructField) -> Column:
        value = F.col(f"`{field.name}`")
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
    return F.coalesce(*[F.when(failed, F.lit(reason)) for failed, reason in checks], F.lit(None)).alias(_REASON)


def _split(rows: DataFrame, table: Table, duplicate: str) -> Checked:
    """Split rows by their reason, and reject all rows of a key but the first in the order of their content.

    The result does not depend on the partitions.
    """
    columns = [column for column in table.columns if column.name in rows.columns]
    content = [F.col(f"`{column.name}`") for column in columns]
    # Bytes and vectors are not compared, because content_hash stands for them.
    short = [F.col(f"`{column.name}`") for column in columns if not column.type.startswith(("binary", "array"))]
    spread = F.when(F.col(_REASON).isNotNull(), F.xxhash64(*short))  # else all null IDs land in one task
    order = Window.partitionBy(*table.key, F.col(_REASON).isNull(), spread).orderBy(*short)
    rows = rows.withColumn("_rank", F.row_number().over(order))
    reason = F.coalesce(F.col(_REASON), F.when(F.col("_rank") > 1, F.lit(duplicate)))
    rows = rows.withColumn(_REASON, reason).persist()
    is_struct = isinstance(rows.schema[_ROW].dataType, T.StructType)
    as_text = F.to_json(_ROW, {"ignoreNullFields": "false"}) if is_struct else F.col(_ROW)
    rejected = rows.where(F.col(_REASON).isNotNull()).select(
        F.lit(table.name).alias("table"),
        as_text.alias("row"),
        F.col(_REASON).alias("reason"),
        F.col(FILE).alias("file"),
        F.col(LINE).alias("line"),
    )
    return Checked(rows.where(F.col(_REASON).isNull()).select(*content), rejected, rows)
