"""Values that a column holds, by the log of a table alone where it tells, so that nothing is scanned.

In: a table and a column of few different values, such as a version number or a fingerprint. Out: its values.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any

import pyarrow.dataset as ds

from qarm_features.storage.plain_files import MANY, PlainDeltaTable
from qarm_features.storage.tables import Table
from qarm_features.storage.warehouse import Warehouse

_MOST = 10


def largest(warehouse: Warehouse, table: Table, column: str) -> int | None:
    """Return the largest value of a column of integers; None if the table has no rows or does not exist."""
    return PlainDeltaTable(warehouse.path(table)).largest(column) if warehouse.exists(table) else None


def parts(warehouse: Warehouse, table: Table, column: str) -> set[str]:
    """Return the values of a partition column as text; none if the table does not exist."""
    found = PlainDeltaTable(warehouse.path(table)).partitions() if warehouse.exists(table) else []
    return {str(part[column]) for part in found if part[column] is not None}


def values(
    warehouse: Warehouse, table: Table, column: str, *, part: Mapping[str, Any], version: int | None = None
) -> set[Any]:
    """Return the different values of a column in a part of a table, at most ten.

    Spark reads the column only where files of the part have several values, or statistics that do not tell.

    Args:
        warehouse: The tables.
        table: Table to read.
        column: Column of few different values.
        part: Values of partition columns.
        version: Delta version, the newest by default.
    """
    if not warehouse.exists(table):
        return set()
    only = PlainDeltaTable(warehouse.path(table), version=version).only_value(column, part)
    if only is not MANY:
        return {only}
    if not warehouse.has_spark:
        return _streamed_values(warehouse, table, column, part, version)
    from pyspark.sql import functions as F

    rows = warehouse.read(table, version=version)
    for name, value in part.items():
        rows = rows.where(F.col(name) == value)
    return {row[0] for row in rows.select(column).distinct().limit(_MOST).collect()}


def _streamed_values(
    warehouse: Warehouse, table: Table, column: str, part: Mapping[str, Any], version: int | None
) -> set[Any]:
    condition = functools.reduce(operator.and_, [ds.field(name) == value for name, value in part.items()])
    found: set[Any] = set()
    for batch in warehouse.arrow(table, version=version).to_batches(columns=[column], filter=condition):
        found |= set(batch[column].unique().to_pylist())
    return found
