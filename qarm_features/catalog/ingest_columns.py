"""A column of the user's source becomes a typed column of ours, and the checks that say what is wrong with a row.

In: the raw rows and the section of the settings that names the column. Out: the value, null where it cannot be had, and
pairs of (a condition that a bad row meets, the reason that it is rejected for).
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.settings.sections import InteractionSource, ItemSource

_EARLIEST, _LATEST = 0, 4_102_444_800  # 1970 to 2100: a number outside is mostly one given in another unit
Check = tuple[Column, str]  # true where a row fails, and the reason


class IngestError(ValueError):
    """The source cannot be read as the settings say, or too much of it is rejected."""


class TypedId:
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


def content_columns(raw: DataFrame, source: ItemSource) -> tuple[dict[str, Column], list[Check]]:
    """Returns the content columns that the settings name, null where a row has none, and what can be wrong."""
    content, checks = {}, []
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
                raise IngestError(f"items.{medium} is {column}, a column of {kind.simpleString()}, must be one of binary "
                                  "or of strings that name files or URIs.")  # fmt: skip
    if source.precomputed is not None:
        content["precomputed"], checks = _precomputed(raw, source)
    return content, checks


def _precomputed(raw: DataFrame, source: ItemSource) -> tuple[Column, list[Check]]:
    value, kind = F.col(f"`{source.precomputed}`"), raw.schema[source.precomputed].dataType
    if isinstance(kind, T.StringType):
        value = non_empty(value)
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


def file_state(name: str, value: Column, media_roots: Sequence[str]) -> Column:
    """Returns size and time of the local file that a URI of a content column names, as text; "" for all else.

    An executor looks: it must see the files, as it must to encode them. Of remote files nothing is asked.
    """
    if not name.endswith("_uri") or not media_roots:
        return F.lit("")
    from qarm_features.encoders.media import media_state  # it loads torch

    @F.arrow_udf("string")
    def states(uris: pa.Array) -> pa.Array:
        return pa.array([media_state(uri, roots=media_roots) for uri in uris.to_pylist()], pa.string())

    return F.coalesce(F.concat(F.lit(":"), states(value)), F.lit(""))


def timestamp_column(raw: DataFrame, source: InteractionSource) -> tuple[Column, list[Check]]:
    """Returns the time of an event from text, a timestamp or a number of the unit that the settings name."""
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


def label_column(raw: DataFrame, source: InteractionSource) -> tuple[Column, list[Check]]:
    """Returns 1 for a positive, 0 for a negative; a log without labels holds positives only."""
    if source.label is None:
        return F.lit(1), []
    value = F.col(f"`{source.label}`")
    number = value.try_cast("double")
    return (number >= source.positive_from).cast("int"), [
        (value.isNull() | (F.trim(value.cast("string")) == ""), "label is null"),
        (number.isNull() | F.isnan(number), "label is not a number"),
    ]


def as_text(raw: DataFrame, column: str) -> Column:
    """Returns a column as text, a list joined by commas."""
    value = F.col(f"`{column}`")
    if isinstance(raw.schema[column].dataType, T.ArrayType):
        return F.array_join(value.cast("array<string>"), ", ")
    return value.cast("string")


def non_empty(text: Column) -> Column:
    """Returns trimmed text, null where nothing is left."""
    return F.when(F.length(F.trim(text)) > 0, F.trim(text))
