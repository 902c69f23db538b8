"""Rows that say that their item has left the catalog.

In: a column of booleans, of 0 and 1, or of the words true and false. Out: a condition, and the check of the column. Every
format gives the same, as for labels. No value means that the item is there. ::

    item_id  title  is_deleted        items       deleted_items
    1        Lamp   null              1  Lamp     2
    2        Sofa   false        ->
    2        null   true
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.checks import Check, IngestError, trimmed
from qarm_features.settings.sources import ItemSource
from qarm_features.storage.sql_names import column_of

DELETED = "item is deleted"  # the reason of all rows of such an item


def deleted_column(raw: DataFrame, source: ItemSource) -> tuple[Column, list[Check]]:
    """Return whether a row says that its item is deleted, which is never null, and the checks of the column.

    Args:
        raw: Rows of the source.
        source: Section ``items`` of the settings.

    Raises:
        IngestError: The column has a type that cannot say so.
    """
    if source.deleted is None:
        return F.lit(False), []
    value, kind = column_of(source.deleted), raw.schema[source.deleted].dataType
    if not isinstance(kind, (T.BooleanType, T.NumericType, T.StringType, T.NullType)):
        raise IngestError(
            f"items.deleted is {source.deleted}, a column of type {kind.simpleString()}, must hold booleans, 0 and 1, or "
            "the words true and false. Name another column."
        )
    if isinstance(kind, T.FractionalType):  # pandas writes integers so in a column with nulls
        value = F.nullif(value, F.lit(float("nan")))
    word = F.lower(trimmed(value.cast("string")))
    says = F.when(word.isin("true", "1", "1.0"), True).when(word.isin("false", "0", "0.0", ""), False)
    is_unclear = word.isNotNull() & says.isNull()
    return F.coalesce(says, F.lit(False)), [(is_unclear, "deleted is neither true nor false")]
