"""The user's catalog and click log become ``items``, ``interactions`` and ``rejected_rows``.

In: Parquet, Delta, CSV, JSON Lines or a table of Spark's catalog, under the user's own column names. Out: checked rows
in our names and types; every row that fails a check goes to ``rejected_rows`` with its reason. ::

    movie_id  name       genres         item_id  title      text
    1         Toy Story  Animation  ->  1        Toy Story  Toy Story. Animation
    null      Nameless   Drama          rejected_rows: items, {"name": "Nameless", ...}, item_id is null
    1         Toy Story  Animation      rejected_rows: items, {"movie_id": 1, ...}, item_id is a duplicate
"""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.settings import InteractionSource, ItemSource, Source
from qarm_features.tables import INTERACTIONS, ITEM_CONTENT, ITEMS, Table

_CORRUPT = "_corrupt_record"
_RAW = "_raw"
_REASON = "_reason"
_EARLIEST, _LATEST = 0, 4_102_444_800  # 1970 to 2100: a number outside is mostly one given in another unit


class IngestError(ValueError):
    """The source cannot be read as the settings say, or too much of it is rejected."""


class Checked(NamedTuple):
    """Rows of one table, split by the checks."""

    accepted: DataFrame
    rejected: DataFrame


def read_source(spark: SparkSession, source: Source, path: str | None) -> DataFrame:
    """Reads the user's rows as they are. Text formats keep every value as a string; the checks give them types.

    Args:
        spark: The session.
        source: The section of the settings.
        path: ``source.path`` resolved against the folder of the settings.
    """
    kind = source.resolved_format
    if kind == "table":
        return spark.read.table(source.table)
    if kind == "csv":
        header = spark.read.csv(path, header=True, inferSchema=False, escape='"').columns
        schema = T.StructType([T.StructField(name, T.StringType()) for name in [*header, _CORRUPT]])
        return spark.read.csv(
            path, header=True, schema=schema, mode="PERMISSIVE", columnNameOfCorruptRecord=_CORRUPT, multiLine=True,
            escape='"',
        )  # fmt: skip
    if kind == "jsonl":
        lines = spark.read.text(path).where(F.length(F.trim("value")) > 0)
        schema = T.StructType([T.StructField(name, T.StringType()) for name in [*_columns(source), _CORRUPT]])
        parsed = F.from_json("value", schema, {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT})
        return lines.select(parsed.alias("parsed"), F.col("value").alias(_RAW)).select("parsed.*", _RAW)
    return spark.read.format(kind).load(path)


def check_items(raw: DataFrame, source: ItemSource) -> Checked:
    """Checks rows of the catalog and brings them into the form of ``items``.

    Raises:
        IngestError: A column that the settings name is not there.
    """
    raw = _require_columns(raw, source, "items")
    item_id = _Id(raw, "item_id", source.item_id, source.item_id_type)
    title = F.lit(None).cast("string") if source.title is None else _non_empty(_as_text(raw, source.title))
    content, checks = _content(raw, source)
    hashes = [F.concat(F.lit(f"{name}:"), F.sha2(_as_bytes(name, value), 256)) for name, value in content.items()]
    present = [F.when(value.isNotNull(), True) for value in content.values()]
    checks.append((F.coalesce(*present).isNull(), "content is empty"))
    rows = raw.select(
        item_id.value.alias("item_id"),
        title.alias("title"),
        *[content.get(name, F.lit(None)).cast(ITEMS.column(name).type).alias(name) for name in ITEM_CONTENT],
        F.sha2(F.concat_ws(",", *hashes), 256).alias("content_hash"),
        _first_reason([*_unreadable(raw), *item_id.checks, *checks]),
        _as_it_came(raw),
    )
    return _split(rows, ITEMS, "item_id is a duplicate")


def check_interactions(raw: DataFrame, source: InteractionSource, *, item_id_type: str) -> Checked:
    """Checks rows of the click log and brings them into the form of ``interactions``.

    Raises:
        IngestError: A column that the settings name is not there.
    """
    raw = _require_columns(raw, source, "interactions")
    user_id = _Id(raw, "user_id", source.user_id, source.user_id_type)
    item_id = _Id(raw, "item_id", source.item_id, item_id_type)
    timestamp, timestamp_checks = _timestamp(raw, source)
    label, label_checks = _label(raw, source)
    rows = raw.select(
        user_id.value.alias("user_id"),
        item_id.value.alias("item_id"),
        timestamp.alias("event_timestamp"),
        label.alias("label"),
        _first_reason([*_unreadable(raw), *user_id.checks, *item_id.checks, *timestamp_checks, *label_checks]),
        _as_it_came(raw),
    )
    return _split(rows, INTERACTIONS, "interaction is a duplicate")


def require_few_rejected(table: Table, counts_by_reason: dict[str, int], rows_in: int, max_share: float) -> None:
    """Stops when too large a share of the rows was rejected.

    Raises:
        IngestError: The share is above ``max_share``; the message holds the counts by reason.
    """
    rejected = sum(counts_by_reason.values())
    if rows_in == 0:
        raise IngestError(f"{table.name} has no rows at its source, must have at least 1. Check its path.")
    if rejected > max_share * rows_in:
        reasons = "; ".join(f"{reason}: {n:,}" for reason, n in sorted(counts_by_reason.items(), key=lambda r: -r[1]))
        raise IngestError(
            f"{rejected:,} of {rows_in:,} rows of {table.name} are rejected ({rejected / rows_in:.1%}), must be at most "
            f"{max_share:.1%} (max_rejected_share). By reason: {reasons}. The rows are in rejected_rows."
        )


class _Id:
    """An ID column: its typed value and what can be wrong with it."""

    def __init__(self, raw: DataFrame, name: str, column: str, id_type: str):
        text = F.trim(F.col(f"`{column}`").cast("string"))
        missing = text.isNull() | (text == "")
        self.checks = [(missing, f"{name} is null")]
        kind = raw.schema[column].dataType
        if id_type == "string":
            self.value = text
        elif isinstance(kind, T.IntegralType):
            self.value = F.col(f"`{column}`").cast("bigint")
        else:  # 7.0 is what pandas makes of 7 in a column with nulls
            value = F.col(f"`{column}`")
            whole = value == F.floor(value) if isinstance(kind, T.FractionalType) else text.rlike(r"^[+-]?\d+(\.0+)?$")
            number = value if isinstance(kind, T.FractionalType) else F.regexp_replace(text, r"\.0+$", "")
            self.value = number.try_cast("bigint")
            self.checks.append((~missing & ~F.coalesce(whole, F.lit(False)), f"{name} is not an integer"))
            self.checks.append((~missing & self.value.isNull(), f"{name} does not fit 64 bits"))


def _columns(source: Source) -> list[str]:
    if isinstance(source, ItemSource):
        names = [source.item_id, source.title, *source.text, source.image, source.audio, source.precomputed]
    else:
        names = [source.user_id, source.item_id, source.event_timestamp, source.label]
    return [name for name in dict.fromkeys(names) if name]


def _require_columns(raw: DataFrame, source: Source, name: str) -> DataFrame:
    missing = [column for column in _columns(source) if column not in raw.columns]
    if missing:
        present = ", ".join(c for c in raw.columns if c not in (_CORRUPT, _RAW))
        raise IngestError(f"Source of {name} has no column {', '.join(missing)}. Present: {present}. Change {name}: in "
                          "qarm.yaml.")  # fmt: skip
    return raw


def _unreadable(raw: DataFrame) -> list[tuple[Column, str]]:
    return [(F.col(_CORRUPT).isNotNull(), "row cannot be parsed")] if _CORRUPT in raw.columns else []


def _content(raw: DataFrame, source: ItemSource) -> tuple[dict[str, Column], list[tuple[Column, str]]]:
    """Returns the content columns that the settings name, null where a row has none, and what can be wrong."""
    content, checks = {}, []
    if source.text:
        content["text"] = _non_empty(F.concat_ws(". ", *[_non_empty(_as_text(raw, name)) for name in source.text]))
    for medium in ("image", "audio"):
        if (column := getattr(source, medium)) is not None:
            value, kind = F.col(f"`{column}`"), raw.schema[column].dataType
            if isinstance(kind, T.BinaryType):
                content[medium] = F.when(F.length(value) > 0, value)
            elif isinstance(kind, T.StringType):
                content[f"{medium}_uri"] = _non_empty(value)
            else:
                raise IngestError(f"items.{medium} is {column}, a column of {kind.simpleString()}, must be one of binary "
                                  "or of strings that name files or URIs.")  # fmt: skip
    if source.precomputed is not None:
        content["precomputed"], checks = _precomputed(raw, source)
    return content, checks


def _precomputed(raw: DataFrame, source: ItemSource) -> tuple[Column, list[tuple[Column, str]]]:
    value, kind = F.col(f"`{source.precomputed}`"), raw.schema[source.precomputed].dataType
    if isinstance(kind, T.StringType):
        value = _non_empty(value)
        numbers = F.from_json(value, "array<double>")
    elif isinstance(kind, T.ArrayType) and isinstance(kind.elementType, T.NumericType):
        numbers = value
    else:
        raise IngestError(f"items.precomputed is {source.precomputed}, a column of {kind.simpleString()}, must be one of "
                          "arrays of numbers or of such arrays as JSON.")  # fmt: skip
    vector = numbers.cast("array<float>")
    unusable = F.exists(vector, lambda n: n.isNull() | F.isnan(n) | (F.abs(n) == float("inf")))
    return vector, [
        (value.isNotNull() & numbers.isNull(), "precomputed is not an array of numbers"),
        (numbers.isNotNull() & (F.size(numbers) != source.precomputed_dim),
         f"precomputed does not have {source.precomputed_dim} numbers"),
        (unusable, "precomputed holds a null or a number that is not finite"),
    ]  # fmt: skip


def _as_bytes(name: str, value: Column) -> Column:
    return F.to_json(value) if name == "precomputed" else value


def _as_it_came(raw: DataFrame) -> Column:
    """The row as a struct; of bytes only their number, or a rejected image would be stored a second time."""

    def shown(field: T.StructField) -> Column:
        value = F.col(f"`{field.name}`")
        is_binary = isinstance(field.dataType, T.BinaryType)
        return F.concat(F.length(value), F.lit(" bytes")).alias(field.name) if is_binary else value

    return F.struct(*[shown(field) for field in raw.schema.fields]).alias(_RAW)


def _as_text(raw: DataFrame, column: str) -> Column:
    value = F.col(f"`{column}`")
    if isinstance(raw.schema[column].dataType, T.ArrayType):
        return F.array_join(value.cast("array<string>"), ", ")
    return value.cast("string")


def _non_empty(text: Column) -> Column:
    return F.when(F.length(F.trim(text)) > 0, F.trim(text))


def _timestamp(raw: DataFrame, source: InteractionSource) -> tuple[Column, list[tuple[Column, str]]]:
    kind = raw.schema[source.event_timestamp].dataType
    if source.timestamp_unit == "timestamp" and isinstance(kind, T.NumericType):
        raise IngestError(
            f"interactions.timestamp_unit is timestamp, must be seconds or milliseconds: {source.event_timestamp} is "
            f"{kind.simpleString()}."
        )
    value = F.col(f"`{source.event_timestamp}`")
    missing = value.isNull() | (F.trim(value.cast("string")) == "")
    if source.timestamp_unit == "timestamp":
        timestamp = value.try_cast("timestamp")
    else:
        seconds = value.try_cast("double") / (1000 if source.timestamp_unit == "milliseconds" else 1)
        bounded = F.when(seconds.between(_EARLIEST, _LATEST), seconds)
        timestamp = F.timestamp_micros((bounded * 1_000_000).cast("bigint"))
        out_of_range = ~missing & seconds.isNotNull() & bounded.isNull()
        return timestamp, [
            (missing, "event_timestamp is null"),
            (~missing & seconds.isNull(), "event_timestamp is not a number"),
            (out_of_range, "event_timestamp is not between 1970 and 2100"),
        ]
    seconds = F.unix_seconds(timestamp)
    return timestamp, [
        (missing, "event_timestamp is null"),
        (~missing & timestamp.isNull(), "event_timestamp is not a timestamp"),
        (~seconds.between(_EARLIEST, _LATEST), "event_timestamp is not between 1970 and 2100"),
    ]


def _label(raw: DataFrame, source: InteractionSource) -> tuple[Column, list[tuple[Column, str]]]:
    if source.label is None:
        return F.lit(1), []
    value = F.col(f"`{source.label}`")
    number = value.try_cast("double")
    return (number >= source.positive_from).cast("int"), [
        (value.isNull() | (F.trim(value.cast("string")) == ""), "label is null"),
        (number.isNull() | F.isnan(number), "label is not a number"),
    ]


def _first_reason(checks: list[tuple[Column, str]]) -> Column:
    return F.coalesce(*[F.when(failed, F.lit(reason)) for failed, reason in checks], F.lit(None)).alias(_REASON)


def _split(rows: DataFrame, table: Table, duplicate: str) -> Checked:
    """Rejects all rows of a key but the first in the order of its content, the same whatever the partitions."""
    content = [F.col(f"`{column.name}`") for column in table.columns]
    # Bytes and vectors are not compared: content_hash stands for them.
    short = [F.col(f"`{column.name}`") for column in table.columns if not column.type.startswith(("binary", "array"))]
    spread = F.when(F.col(_REASON).isNotNull(), F.xxhash64(*short))  # else all null IDs would meet in one task
    order = Window.partitionBy(*table.key, F.col(_REASON).isNull(), spread).orderBy(*short)
    rows = rows.withColumn("_rank", F.row_number().over(order))
    reason = F.coalesce(F.col(_REASON), F.when(F.col("_rank") > 1, F.lit(duplicate)))
    rows = rows.withColumn(_REASON, reason).persist()
    raw_is_json = _RAW in [f.name for f in rows.schema[_RAW].dataType.fields]
    as_json = F.col(f"{_RAW}.{_RAW}") if raw_is_json else F.to_json(_RAW, {"ignoreNullFields": "false"})
    rejected = rows.where(F.col(_REASON).isNotNull())
    return Checked(
        rows.where(F.col(_REASON).isNull()).select(*content),
        rejected.select(F.lit(table.name).alias("table"), as_json.alias("row"), F.col(_REASON).alias("reason")),
    )
