"""Rows that stand twice: found by the key of their table, counted, and removed where they are equal.

In: a table with a key. Out: the number of surplus rows, and the same table without them, one commit per partition. ::

    item_id  rq_codes  codebook_version      item_id  rq_codes  codebook_version
    1        [4, 7]    0                 ->  1        [4, 7]    0
    1        [4, 7]    0
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.storage.conditional_writes import again_if_changed
from qarm_features.storage.tables import Table
from qarm_features.storage.warehouse import Warehouse


class Surplus(NamedTuple):
    """The surplus of a table.

    Attributes:
        rows_in: Number of all rows.
        rows: Number of rows beside the first one of each key.
        keys: Number of keys that stand in more than one row.
        differing: Number of those keys whose rows differ.
        example: The smallest key whose rows differ, by column; None if there is none.
        parts: Values of the partition columns where keys stand in more than one row.
    """

    rows_in: int
    rows: int
    keys: int
    differing: int
    example: dict[str, Any] | None
    parts: list[dict[str, Any]]


def find_surplus(warehouse: Warehouse, table: Table) -> Surplus:
    """Count the rows that stand twice, without a change.

    Args:
        warehouse: The tables.
        table: Table with a key, which exists.
    """
    rows = warehouse.read(table, version=warehouse.version(table))
    twice = rows.groupBy(*table.key).agg(F.count("*").alias("_rows")).where("_rows > 1").persist()
    try:
        keys, surplus = _only_row(twice.agg(F.count("*"), F.coalesce(F.sum(F.col("_rows") - 1), F.lit(0))))
        if not keys:
            return Surplus(rows.count(), 0, 0, 0, None, [])
        twins = rows.join(twice.select(*table.key), on=list(table.key), how="left_semi")
        content = F.struct(*[F.col(f"`{name}`") for name in rows.columns])
        compared = twins.groupBy(*table.key).agg((~F.min(content).eqNullSafe(F.max(content))).alias("_differ"))
        key = F.struct(*table.key)
        differing, example = _only_row(compared.agg(F.count_if("_differ"), F.min(F.when(F.col("_differ"), key))))
        parts = twins.select(*table.partition_by).distinct().collect() if table.partition_by else []  # a few versions
        return Surplus(
            rows.count(),
            surplus,
            keys,
            differing,
            example and example.asDict(),
            [part.asDict() for part in parts] or [{}],
        )
    finally:
        twice.unpersist()


def remove_surplus(warehouse: Warehouse, table: Table, surplus: Surplus) -> int:
    """Keep one of each group of equal rows, and every row that differs from the others of its key.

    Args:
        warehouse: The tables.
        table: Table with a key, which exists.
        surplus: What ``find_surplus`` found there.

    Returns:
        Number of rows that were removed.

    Raises:
        ChangedMeanwhile: Other processes wrote the table again and again.
    """
    return sum(again_if_changed(lambda part=part: _remove(warehouse, table, part)) for part in surplus.parts)  # type: ignore[misc]


def _remove(warehouse: Warehouse, table: Table, part: dict[str, Any]) -> int:
    base = warehouse.base(table, part)
    rows = warehouse.read_base(table, base)
    for condition in base.conditions():
        rows = rows.where(condition)
    before, once = rows.count(), rows.dropDuplicates()
    after = once.count()
    if after < before:
        warehouse.replace(table, once, base=base)
    return before - after


def _only_row(rows: DataFrame) -> tuple[Any, ...]:
    (row,) = rows.collect()
    return tuple(row)
