"""A source column becomes the label of an interaction.

In: a column of numbers, booleans or text. Out: a number, and checks. Every format gives the same: ``true`` is 1 and ``false``
is 0 as a boolean and as text. Other words, infinities and forms that only programming languages know are no labels.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.checks import Check, IngestError, number_text, trimmed
from qarm_features.settings.sources import InteractionSource
from qarm_features.storage.sql_names import column_of


def label_column(raw: DataFrame, source: InteractionSource) -> tuple[Column, list[Check]]:
    """Return the number that is compared with ``positive_from``, null where it cannot be read, and its checks.

    Without a label column, it is ``positive_from`` itself, because all rows are positives.

    Raises:
        IngestError: The column has a type that cannot hold labels, or its booleans cannot reach ``positive_from``.
    """
    if source.label is None:
        return F.lit(source.positive_from), []
    value, kind = column_of(source.label), raw.schema[source.label].dataType
    if isinstance(kind, T.BooleanType) and not 0 < source.positive_from <= 1:
        raise IngestError(
            f"interactions.positive_from is {source.positive_from:g}, must be above 0 and at most 1, because the column "
            f"{source.label} holds booleans: true is 1 and false is 0."
        )
    missing = value.isNull()
    if isinstance(kind, (T.StringType, T.NullType)):
        text = trimmed(value.cast("string"))
        missing = missing | (text == "")
        word = F.lower(text)
        number = F.when(word == "true", 1.0).when(word == "false", 0.0).otherwise(number_text(text).try_cast("double"))
    elif isinstance(kind, T.FloatType):
        missing = missing | F.isnan(value)
        number = value.cast("string").try_cast("double")  # 4.1 as a float is 4.1 in text, but not as a double
    elif isinstance(kind, (T.NumericType, T.BooleanType)):
        missing = missing | F.isnan(value) if isinstance(kind, T.DoubleType) else missing
        number = value.try_cast("double")
    else:
        raise IngestError(
            f"interactions.label is {source.label}, a column of type {kind.simpleString()}, must hold numbers, booleans or "
            "text. Name another column."
        )
    infinite = F.abs(number) == float("inf")
    return number, [(missing, "label is null"), (number.isNull() | infinite, "label is not a number")]
