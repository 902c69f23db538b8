"""A Delta table for readers that take its Parquet files as they are: Arrow and torch.

In: a Delta table. Out: its files, and a refusal where the files alone would give other rows than the table: rows that a
deletion vector marks as deleted stand in their file still, and under column mapping the columns have other names there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.table import ProtocolVersions

_DELETED = "deletionVectors"
_NOT_FOR_DELTA = re.compile(r"[\[\]|^\\\n\r\t]|%[0-9A-Fa-f]{2}")
MANY = object()  # What ``only_value`` returns where there is not one value


class TableError(ValueError):
    """A table, a column or a row that is needed does not exist, or a table cannot be read in this way."""


def require_plain_folder(root: str) -> None:
    """Refuse a local folder of tables that delta-rs takes for another one, or cannot take.

    Args:
        root: Folder or URI of the tables.

    Raises:
        TableError: The path has such characters.
    """
    if "://" not in root and (found := _NOT_FOR_DELTA.search(root)):
        raise TableError(
            f"The warehouse is {root}, must be a folder without {found[0]!r} in its path, which Spark and delta-rs read "
            "in two ways. Rename the folder, or set warehouse to another one."
        )


def existing_path(uri: str) -> str:
    """Return the path of a file that delta-rs lists, which writes a space in a local folder as ``%20``.

    Args:
        uri: Path as delta-rs lists it, or a URI, which is returned as it is.
    """
    path = unquote(uri)
    return path if "://" not in uri and path != uri and Path(path).exists() else uri


def commits_of(table: DeltaTable, path: str, count: int | None = None) -> list[dict[str, Any]]:
    """Return what the newest commits of a table say of themselves, the newest first.

    delta-rs finds no commits in a local folder with ``#`` or ``?`` in its path, so its log is read here then.

    Args:
        table: The table.
        path: Its folder or URI.
        count: Number of commits; None for all.
    """
    found = table.history(count)
    if found or "://" in path:
        return found
    files = sorted(Path(path, "_delta_log").glob("*.json"), reverse=True)[:count]
    actions = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [action["commitInfo"] for action in actions if "commitInfo" in action]


class PlainDeltaTable(DeltaTable):
    """A Delta table that is read by its files.

    Example::

        table = PlainDeltaTable("data/items")
        if not table.has_deleted_rows():
            table.to_pyarrow_dataset()
    """

    def has_deleted_rows(self) -> bool:
        """Return True if a file holds rows that a deletion vector marks as deleted."""
        if _DELETED not in (super().protocol().reader_features or ()):
            return False
        return any(batch.num_rows for batch in self.deletion_vectors())

    def require_plain_columns(self, name: str) -> None:
        """Check that the columns of the files have the names of the table's columns.

        Args:
            name: Name of the table, for the error.

        Raises:
            TableError: The table has column mapping.
        """
        mode = self.metadata().configuration.get("delta.columnMapping.mode", "none")
        if mode != "none":
            raise TableError(
                f"Table {name} has delta.columnMapping.mode = {mode}, must be none, because its files are read without "
                "Spark. Set it in Spark by ALTER TABLE ... SET TBLPROPERTIES ('delta.columnMapping.mode' = 'none')."
            )

    def largest(self, column: str) -> int | None:
        """Return the largest value of a column of integers by the log alone; None if no file of the table has one."""
        actions = pa.table(self.get_add_actions(flatten=True))
        found = [name for name in (f"partition.{column}", f"max.{column}") if name in actions.column_names]
        values = [pc.max(actions[name]).as_py() for name in found]
        return max((int(value) for value in values if value is not None), default=None)

    def only_value(self, column: str, part: Mapping[str, Any]) -> Any:
        """Return the value that all rows of a part have in a column, by the statistics of the log alone.

        Args:
            column: Name of the column.
            part: Values of partition columns.

        Returns:
            The value, None if the table lacks the column; ``MANY`` if rows differ, if the statistics do not tell, or if there
            are no rows.
        """
        actions = pa.table(self.get_add_actions(flatten=True))
        for name, value in part.items():
            actions = actions.filter(pc.equal(pc.cast(actions[f"partition.{name}"], pa.string()), str(value)))
        if actions.num_rows and column not in {field.name for field in self.schema().fields}:
            return None
        names = [f"min.{column}", f"max.{column}", f"null_count.{column}"]
        if not actions.num_rows or any(name not in actions.column_names for name in names):
            return MANY
        found = set(zip(*[actions[name].to_pylist() for name in names]))
        low, high, nulls = next(iter(found))
        return low if len(found) == 1 and low is not None and low == high and nulls == 0 else MANY

    def protocol(self) -> ProtocolVersions:
        """Return the protocol without deletion vectors.

        delta-rs refuses a table that may have them, even if none of its files has one, which ``has_deleted_rows`` tells.
        """
        protocol = super().protocol()
        features = [feature for feature in protocol.reader_features or () if feature != _DELETED]
        return protocol._replace(reader_features=features or None)
