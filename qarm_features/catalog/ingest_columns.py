"""Source columns become typed columns with checks.

In: the source rows and the section of the settings that names the column. Out: the typed value, null where it cannot be
read, and checks. A check is a condition that a bad row meets, with the reason for its rejection.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.nested_text import text_of
from qarm_features.catalog.source_rows import IngestError
from qarm_features.settings.sections import InteractionSource, ItemSource
from qarm_features.storage.tables import ORDER_IN_MOMENT

_EARLIEST, _LATEST = 0, 4_102_444_800  # 1970 to 2100: a number outside this range is usually in another unit
Check = tuple[Column, str | Column]  # a condition that is true where a row fails, and the reason
FileState = Callable[[str | None], str | None]


class TypedId:
    """An ID column with its checks.

    Args:
        raw: Source rows.
        name: Name of the ID in our tables, for the reasons.
        column: Name of the source column.
        id_type: ``integer`` or ``string``.

    Attributes:
        value: The typed ID, null where it cannot be read.
        checks: The checks of the column.
    """

    def __init__(self, raw: DataFrame, name: str, column: str, id_type: str) -> None:
        text = F.trim(F.col(f"`{column}`").cast("string"))
        missing = text.isNull() | (text == "")
        self.checks: list[Check] = [(missing, f"{name} is null")]
        kind = raw.schema[column].dataType
        if id_type == "string":
            self.value = text
        elif isinstance(kind, T.IntegralType):
            self.value = F.col(f"`{column}`").cast("bigint")
        else:  # pandas writes 7 as 7.0 in a column with nulls
            value = F.col(f"`{column}`")
            whole = value == F.floor(value) if isinstance(kind, T.FractionalType) else text.rlike(r"^[+-]?\d+(\.0+)?$")
            number = value if isinstance(kind, T.FractionalType) else F.regexp_replace(text, r"\.0+$", "")
            self.value = number.try_cast("bigint")
            self.checks.append((~missing & ~F.coalesce(whole, F.lit(False)), f"{name} is not an integer"))
            self.checks.append((~missing & self.value.isNull(), f"{name} does not fit 64 bits"))


def content_columns(raw: DataFrame, source: ItemSource) -> tuple[dict[str, Column], list[Check]]:
    """Return the content columns that the settings name, null where a row has no such content, and their checks.

    Raises:
        IngestError: A column has a type that cannot hold the content.
    """
    content: dict[str, Column] = {}
    checks: list[Check] = []
    if source.text:
        content["text"] = non_empty(F.concat_ws(". ", *[non_empty(as_text(raw, name)) for name in source.text]))
    for medium in ("image", "audio"):
        if (column := getattr(source, medium)) is not None:
            value, kind = F.col(f"`{column}`"), raw.schema[column].dataType
            if isinstance(kind, T.BinaryType):
                content[medium] = F.when(F.length(value) > 0, value)
            elif isinstance(kind, T.StringType):
                content[f"{medium}_uri"] = non_empty(value)
            else:
                raise IngestError(
                    f"items.{medium} is {column}, a column of type {kind.simpleString()}, must be a binary column or a "
                    "string column of paths or URIs. Name another column."
                )
    if source.precomputed is not None:
        content["precomputed"], checks = _precomputed(raw, source.precomputed, source.precomputed_dim)
    return content, checks


def _precomputed(raw: DataFrame, column: str, dim: int | None) -> tuple[Column, list[Check]]:
    """Return the vectors in a source column as ``array<float>``, and their checks."""
    value, kind = F.col(f"`{column}`"), raw.schema[column].dataType
    if isinstance(kind, T.StringType):
        value = non_empty(value)
        numbers = F.from_json(value, "array<double>")
    elif isinstance(kind, T.ArrayType) and isinstance(kind.elementType, T.NumericType):
        numbers = value
    else:
        raise IngestError(
            f"items.precomputed is {column}, a column of type {kind.simpleString()}, must be a column of arrays of "
            "numbers or of JSON arrays of numbers. Name another column."
        )
    vector = numbers.cast("array<float>")
    unusable = F.exists(vector, lambda n: n.isNull() | F.isnan(n) | (F.abs(n) == float("inf")))
    return vector, [
        (value.isNotNull() & numbers.isNull(), "precomputed is not an array of numbers"),
        (numbers.isNotNull() & (F.size(numbers) != dim), f"precomputed does not have {dim} numbers"),
        (unusable, "precomputed holds a null or a number that is not finite"),
    ]


def file_states(name: str, value: Column, file_state: FileState | None) -> Column:
    """Return the state of the local files that a content column names, as text.

    The executors call ``file_state``, so they must see the files, as they must to encode them.

    Args:
        name: Name of the content column in ``items``.
        value: Content column.
        file_state: Function that takes a URI and returns the state of its local file, or None where there is no such file.

    Returns:
        The state after a colon. An empty string where there is none, where the column holds no URIs, and where
        ``file_state`` is None.
    """
    if not name.endswith("_uri") or file_state is None:
        return F.lit("")

    def states(uris: pa.Array) -> pa.Array:
        return pa.array([file_state(uri) for uri in uris.to_pylist()], pa.string())

    as_text = F.arrow_udf(states, "string")  # type: ignore[call-overload]  # the stubs demand functionType, which has a default
    return F.coalesce(F.concat(F.lit(":"), as_text(value)), F.lit(""))


def timestamp_column(raw: DataFrame, source: InteractionSource) -> tuple[Column, list[Check]]:
    """Return the time of an event from text, a timestamp or a number in the unit that the settings name, and its checks.

    Raises:
        IngestError: The column holds numbers and the settings name no unit.
    """
    kind = raw.schema[source.event_timestamp].dataType
    if source.timestamp_unit == "timestamp" and isinstance(kind, T.NumericType):
        raise IngestError(
            f"interactions.timestamp_unit is timestamp, must be seconds or milliseconds, because the column "
            f"{source.event_timestamp} has type {kind.simpleString()}. Set the unit of its numbers."
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


def label_column(raw: DataFrame, source: InteractionSource) -> tuple[Column, list[Check]]:
    """Return 1 for a positive and 0 for a negative, and the checks of the column. Without labels all rows are positives."""
    if source.label is None:
        return F.lit(1), []
    value = F.col(f"`{source.label}`")
    number = value.try_cast("double")
    return (number >= source.positive_from).cast("int"), [
        (value.isNull() | (F.trim(value.cast("string")) == ""), "label is null"),
        (number.isNull() | F.isnan(number), "label is not a number"),
    ]


def order_columns(raw: DataFrame, source: InteractionSource) -> tuple[list[Column], list[Check]]:
    """Return the column that orders the rows of one moment, or none if the settings name none, and its checks.

    A row without a number is kept. It comes before the rows of its moment that have one.
    """
    if source.order_by is None:
        return [], []
    order = TypedId(raw, "order_by", source.order_by, "integer")
    return [order.value.alias(ORDER_IN_MOMENT)], order.checks[1:]  # the first check is that of a missing value


def as_text(raw: DataFrame, column: str) -> Column:
    """Return a column as text. ``text_of`` says how lists and objects become text."""
    return text_of(F.col(f"`{column}`"), raw.schema[column].dataType)


def non_empty(text: Column) -> Column:
    """Return trimmed text, null where nothing is left."""
    return F.when(F.length(F.trim(text)) > 0, F.trim(text))
