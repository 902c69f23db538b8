"""Values of typed columns as the text that JSON Lines gives for the same values.

In: a column of any type. Out: text. A list becomes its elements, an object its keys and values in the order of the keys;
elements that are null or empty are left out. ``json_records.as_text`` does the same for lines.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T


def text_of(value: Column, kind: T.DataType) -> Column:
    """Return a column as text, null where it is null.

    Args:
        value: Column.
        kind: Its type.
    """
    if isinstance(kind, T.ArrayType):
        element = kind.elementType
        return F.array_join(_filled(F.transform(value, lambda entry: text_of(entry, element))), ", ")
    if isinstance(kind, T.StructType):
        fields = sorted(kind.fields, key=lambda field: field.name)
        entries = [_entry(F.lit(field.name), text_of(value[field.name], field.dataType)) for field in fields]
        return F.when(value.isNotNull(), F.concat_ws(", ", *entries))
    if isinstance(kind, T.MapType):
        keys = F.array_sort(F.map_keys(value))
        value_type = kind.valueType
        entries_of_map = F.transform(
            keys, lambda key: _entry(key.cast("string"), text_of(F.element_at(value, key), value_type))
        )
        return F.array_join(_filled(entries_of_map), ", ")
    if isinstance(kind, (T.DoubleType, T.FloatType)):
        return _plain(value.cast("string"))
    return value.cast("string")


def _entry(key: Column, text: Column) -> Column:
    return F.when(text != "", F.concat(key, F.lit(": "), text))


def _filled(texts: Column) -> Column:
    return F.filter(texts, lambda text: text.isNotNull() & (text != ""))


def _plain(number: Column) -> Column:
    """Return 1.2E7 as 12000000.0, as other writers write numbers between 1e-4 and 1e16."""
    exact = number.try_cast("decimal(38,21)")
    digits = F.regexp_replace(exact.cast("string"), r"(\.\d+?)0*$", "$1")
    return F.when(number.rlike(r"E") & (F.abs(exact) < 1e16) & (F.abs(exact) >= 1e-4), digits).otherwise(number)
