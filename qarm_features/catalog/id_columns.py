"""A source column becomes the ID of an item or a user.

In: a column of whole numbers, floats, decimals or text. Out: the ID in the type that the settings name, and checks. The same
ID is the same value whatever the type of its column. ::

    column   value        integer      string
    bigint   10           10           10
    double   10.0         10           10          pandas makes floats of a column of integers that has a null
    double   1.2345678E7  12345678     12345678
    text     10.0         10           10.0        text stays as it is: 1.0 and 1 can be two items
    text     007          7            007
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.checks import Check, IngestError, trimmed
from qarm_features.storage.sql_names import column_of

# What pandas, Python, SQL and Spark write in text for a missing value.
_NULL_TEXTS = ("null", "NULL", "None", "nan", "NaN", "<NA>", "\\N")
_FLOAT_LIMIT, _DOUBLE_LIMIT = 2**24, 2**53  # from here on, several integers share one float


def id_column(raw: DataFrame, name: str, column: str, id_type: str) -> tuple[Column, list[Check]]:
    """Return an ID, null where it cannot be read, and its checks.

    Args:
        raw: Source rows.
        name: Name of the ID in our tables, for the reasons.
        column: Name of the source column.
        id_type: ``integer`` or ``string``.

    Raises:
        IngestError: The column has a type that cannot hold IDs.
    """
    value, kind = column_of(column), raw.schema[column].dataType
    if isinstance(kind, T.IntegralType):
        return value.cast("bigint" if id_type == "integer" else "string"), [(value.isNull(), f"{name} is null")]
    if isinstance(kind, T.DecimalType):
        return _from_decimal(value, name, id_type)
    if isinstance(kind, (T.FloatType, T.DoubleType)):
        return _from_float(value, name, id_type, _FLOAT_LIMIT if isinstance(kind, T.FloatType) else _DOUBLE_LIMIT)
    if isinstance(kind, (T.StringType, T.NullType)):
        return _from_text(trimmed(value.cast("string")), name, id_type)
    raise IngestError(
        f"The column {column} has type {kind.simpleString()}, must hold numbers or text to be a {name}. Name another column."
    )


def _from_float(value: Column, name: str, id_type: str, limit: int) -> tuple[Column, list[Check]]:
    missing = value.isNull() | F.isnan(value)  # pandas writes a missing value as NaN
    whole = (value == F.rint(value)) & (F.abs(value) != float("inf"))
    exact = F.abs(value) < float(limit)
    number = F.when(~missing & whole & exact, value).try_cast("bigint")
    return number.cast("bigint" if id_type == "integer" else "string"), [
        (missing, f"{name} is null"),
        (~whole, _not_whole(name, id_type)),
        (~exact, _digits_lost(name)),
    ]


def _from_decimal(value: Column, name: str, id_type: str) -> tuple[Column, list[Check]]:
    whole = value % F.lit(1).cast("decimal(1,0)") == 0  # to compare with floor(value) would round the 38th digit away
    checks: list[Check] = [(value.isNull(), f"{name} is null"), (~whole, _not_whole(name, id_type))]
    if id_type == "string":
        return F.when(whole, F.floor(value)).cast("string"), checks
    number = F.when(whole, F.floor(value)).try_cast("bigint")
    return number, [*checks, (number.isNull(), f"{name} does not fit 64 bits")]


def _from_text(text: Column, name: str, id_type: str) -> tuple[Column, list[Check]]:
    missing: Check = (text.isNull() | text.isin("", *_NULL_TEXTS), f"{name} is null")
    if id_type == "string":
        return F.when(~missing[0], text), [missing]
    whole = text.rlike(r"\A[+-]?[0-9]+(\.0+)?\z")
    number = F.when(whole, F.regexp_replace(text, r"\.0+\z", "")).try_cast("bigint")
    from_float = text.contains(".") & ~number.between(1 - _DOUBLE_LIMIT, _DOUBLE_LIMIT - 1)
    return F.when(~from_float, number), [
        missing,
        (~whole, _not_whole(name, id_type)),
        (number.isNull(), f"{name} does not fit 64 bits"),
        (from_float, _digits_lost(name)),
    ]


def _not_whole(name: str, id_type: str) -> str:
    return f"{name} is not an integer" if id_type == "integer" else f"{name} is not a whole number"


def _digits_lost(name: str) -> str:
    return f"{name} is too large for a float to hold all its digits"
