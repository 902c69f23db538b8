"""Rows of some keys leave a table.

In: keys. Out: one commit without the rows of these keys, or none where the table holds no such row. The change feed of the
table names the rows that left.
"""

from __future__ import annotations

from pyspark.sql import DataFrame

from qarm_features.storage.conditional_writes import again_if_changed, delete_matching
from qarm_features.storage.tables import DELETED_ITEMS, Table
from qarm_features.storage.warehouse import Warehouse


def delete_rows(warehouse: Warehouse, table: Table, keys: DataFrame) -> int:
    """Delete the rows of some keys. A second call deletes nothing.

    Args:
        warehouse: Tables of the project.
        table: Table to delete from. It may be missing.
        keys: Rows of columns that ``table`` has, each row once. Rows that agree in all of these columns are deleted.

    Returns:
        Number of deleted rows.

    Raises:
        ChangedMeanwhile: Others wrote the table again and again.
    """
    return again_if_changed(lambda: _delete_rows(warehouse, table, keys)) if warehouse.exists(table) else 0


def delete_deleted_items(warehouse: Warehouse, table: Table) -> int:
    """Delete the rows of the items that the catalog says are deleted, and return their number.

    Args:
        warehouse: Tables of the project.
        table: Table with the column ``item_id``.
    """
    if not warehouse.exists(DELETED_ITEMS):
        return 0
    return delete_rows(warehouse, table, warehouse.read(DELETED_ITEMS).select("item_id"))


def _delete_rows(warehouse: Warehouse, table: Table, keys: DataFrame) -> int:
    base = warehouse.base(table)
    found = warehouse.read_base(table, base).join(keys, on=keys.columns, how="left_semi").count()
    if found:
        delete_matching(warehouse.spark, keys, base)
    return found
