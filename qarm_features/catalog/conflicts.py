"""Of several rows of one key, one is kept.

In: checked rows. Out: the same rows with a rank, 1 for the row that is kept, and a reason for each of the others. Rows that
agree with the kept row in all that our table holds are counted apart from rows that do not. ::

    item_id  title     _reason      item_id  title     _reason
    1        Lamp      null         1        Lamp      null
    1        Lamp      null    ->   1        Lamp      item_id is a duplicate
    1        ?         null         1        ?         item_id is a duplicate with other content
    1        null      bad row      1        null      bad row

The result does not depend on the partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from qarm_features.catalog.checks import IngestError, number_text, trimmed
from qarm_features.catalog.deletions import DELETED
from qarm_features.storage.sql_names import column_of

REASON = "_reason"
SAID = "_said"  # what a row says of its key: two rows with different values contradict each other
_GROUP, _TIMES = "_group", "_times"
_SHORT = (T.StringType, T.NumericType, T.TimestampType)
_ORDERED = (T.StringType, T.NumericType, T.BooleanType, T.DateType, T.TimestampType, T.TimestampNTZType)


def duplicate_reason(name: str, *, other_content: bool) -> str:
    """Return the reason of a row whose key another row has.

    Args:
        name: Name of the key in the reason, for example ``item_id``.
        other_content: Whether the content differs from that of the row that is kept.
    """
    return f"{name} is a duplicate with other content" if other_content else f"{name} is a duplicate"


def group_by_key(rows: DataFrame, key: Sequence[str]) -> DataFrame:
    """Bring the accepted rows of each key together. All that follows here works on such rows without a further shuffle.

    Args:
        rows: Rows with the columns of the key, ``_reason`` (null for an accepted row) and ``_said``.
        key: Columns of the key.
    """
    # Rejected rows are spread, or else all rows with a null ID would land in one task.
    short = [column_of(field.name) for field in rows.schema.fields if isinstance(field.dataType, _SHORT)]
    return rows.withColumn(_GROUP, F.when(F.col(REASON).isNotNull(), F.xxhash64(*short))).repartition(*key, _GROUP)


def keep_one_per_key(
    rows: DataFrame, key: Sequence[str], name: str, best_first: Sequence[Column], *, deletes: Column | None = None
) -> DataFrame:
    """Give a reason to all accepted rows of a key but the best.

    Args:
        rows: Rows that ``group_by_key`` returned.
        key: Columns of the key.
        name: Name of the key in the reasons.
        best_first: Order of preference. Rows that are equal in it must not differ in what the table holds.
        deletes: Whether a row says that its key is deleted. If the row that is kept does, all rows of the key get the reason
            for it; a row that does and is not kept contradicts nothing.
    """
    rows = rows.withColumn(_TIMES, F.count("*").over(Window.partitionBy(*key, _GROUP, SAID)))
    window = Window.partitionBy(*key, _GROUP).orderBy(*best_first)
    rank, kept = F.row_number().over(window), F.first(SAID).over(window)
    same, other = (F.lit(duplicate_reason(name, other_content=other)) for other in (False, True))
    agrees = kept.eqNullSafe(F.col(SAID))
    found = F.when(rank > 1, F.when(agrees if deletes is None else agrees | deletes, same).otherwise(other))
    if deletes is not None:
        found = F.when(F.first(deletes).over(window), F.lit(DELETED)).otherwise(found)
    return rows.withColumn(REASON, F.coalesce(F.col(REASON), found)).drop(_GROUP, _TIMES)


def sum_of_different(number: str, told_apart_by: Column, key: Sequence[str]) -> Column:
    """Return the sum of a number over the rows of a key. Rows with the same number, told apart by nothing, count once."""
    window = Window.partitionBy(*key, _GROUP)
    different = F.collect_set(F.struct(F.col(number).alias("number"), told_apart_by.alias("apart"))).over(window)
    return F.aggregate(F.array_sort(different), F.lit(0.0), lambda total, one: total + one["number"])


def times() -> Column:
    """Return the number of rows of the key that say the same."""
    return F.col(_TIMES)


def latest_value(raw: DataFrame, column: str) -> Column:
    """Return a value that is larger for a later row: numbers by size, other text by its letters.

    Raises:
        IngestError: The column has a type without an order.
    """
    value, kind = column_of(column), raw.schema[column].dataType
    if not isinstance(kind, _ORDERED):
        raise IngestError(
            f"items.latest_by is {column}, a column of type {kind.simpleString()}, must hold numbers, timestamps or text. "
            "Name another column."
        )
    if isinstance(kind, T.StringType):
        return F.struct(number_text(value).try_cast("double"), trimmed(value))
    return F.nullif(value, F.lit(float("nan"))) if isinstance(kind, (T.FloatType, T.DoubleType)) else value
