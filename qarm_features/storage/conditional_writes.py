"""A write that happens only if nobody has written the same part of the table since its rows were computed.

In: the state of a part of a table from which rows were computed. Out: one commit, or ``ChangedMeanwhile`` and no commit.

A part is what one run writes, for example the rows of one codebook version. Each part has a number in Delta's log, its
transaction identifier, which every such write raises by one. Delta refuses a second write of the same number, whatever
machine it comes from. So two runs that start from the same rows never both add theirs, even where no lock reaches.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from deltalake import DeltaTable

from qarm_features.storage.plain_files import TableError, commits_of
from qarm_features.storage.sql_names import quoted, text_literal

if TYPE_CHECKING:
    from delta.tables import DeltaMergeBuilder
    from pyspark.sql import DataFrame, SparkSession

Result = TypeVar("Result")
logger = logging.getLogger(__name__)
_ATTEMPTS = 5
_CONFLICT = r"DELTA_(CONCURRENT|PROTOCOL_CHANGED|METADATA_CHANGED|PATH_EXISTS)"
_OF_A_MERGE = {  # MERGE takes the options of a writer from the session alone
    "txnAppId": "spark.databricks.delta.write.txnAppId",
    "txnVersion": "spark.databricks.delta.write.txnVersion",
    "userMetadata": "spark.databricks.delta.commitInfo.userMetadata",
}


class ChangedMeanwhile(TableError):
    """Another process wrote the same part of the table since its rows were read. Nothing was written."""


@dataclass(frozen=True)
class Base:
    """The state of a part of a table from which new rows are computed.

    Attributes:
        path: Folder or URI of the table.
        version: Delta version; None if there is no table.
        part: Values of partition columns that name the part; empty for the whole table.
        writes: Number of the part's last write, -1 before the first.
    """

    path: str
    version: int | None
    part: Mapping[str, str | int]
    writes: int

    def conditions(self, prefix: str = "") -> list[str]:
        """Return the SQL conditions of the part, such as ``codebook_version = 3``; none for the whole table."""
        return [f"{prefix}{quoted(name)} = {_literal(value)}" for name, value in self.part.items()]

    @property
    def app_id(self) -> str:
        """Name of the part in Delta's log."""
        return " ".join(["qarm", *(f"{name}={value}" for name, value in self.part.items())])


def base_of(path: str, part: Mapping[str, str | int]) -> Base:
    """Return the present state of a part of a table.

    Args:
        path: Folder or URI of the table.
        part: Values of partition columns that name the part; empty for the whole table.
    """
    if not DeltaTable.is_deltatable(path):
        return Base(path, None, part, -1)
    table = DeltaTable(path)
    base = Base(path, table.version(), part, -1)
    return Base(path, base.version, part, _writes(table, base))


def again_if_changed(attempt: Callable[[], Result]) -> Result:
    """Call a function, and call it again from the new state of the table while other processes write there.

    Args:
        attempt: Function that takes a ``Base``, computes rows from it and writes them.

    Raises:
        ChangedMeanwhile: Others wrote in between five times.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return attempt()
        except ChangedMeanwhile as changed:
            logger.info("%s They are computed again.", changed)
    return attempt()


@contextlib.contextmanager
def only_from(base: Base) -> Iterator[dict[str, str]]:
    """Hold a write to a base: yield the options of a Spark writer, and check afterwards that the commit is its own.

    Raises:
        ChangedMeanwhile: Another process wrote the part since ``base``.
    """
    mark = uuid.uuid4().hex
    try:
        yield {
            "txnAppId": base.app_id,
            "txnVersion": str(base.writes + 1),
            "userMetadata": json.dumps({"write": mark}),
        }
    except Exception as error:  # Delta's own classes have no common parent, and Java's reach Python under several names
        if not re.search(_CONFLICT, str(error)):
            raise
        raise _changed(base) from error
    table = DeltaTable(base.path)
    # Delta skips a number that it has seen, without an error. A merge of no rows makes no commit either.
    if _writes(table, base) > base.writes and not _has_commit(table, base, mark):
        raise _changed(base)


def merge_rows(spark: SparkSession, rows: DataFrame, base: Base, *, key: Sequence[str], replace: bool) -> None:
    """Add rows to a table, and replace those of the same key, if the part is as it is in a base.

    Args:
        spark: Session that writes.
        rows: Rows with the columns of the table, no two of the same key.
        base: State of the part of the table.
        key: Columns that identify a row.
        replace: False keeps the rows of the same key.

    Raises:
        ChangedMeanwhile: Another process wrote the part since ``base``.
    """
    merge = _matched(spark, rows, base, key).withSchemaEvolution().whenNotMatchedInsertAll()
    _execute(spark, merge.whenMatchedUpdateAll() if replace else merge, base)


def delete_matching(spark: SparkSession, keys: DataFrame, base: Base) -> None:
    """Delete the rows that agree with a row of ``keys`` in all of its columns, if the part is as it is in a base.

    Args:
        spark: Session that writes.
        keys: Rows of columns of the table, no two of them equal.
        base: State of the part of the table.

    Raises:
        ChangedMeanwhile: Another process wrote the part since ``base``.
    """
    _execute(spark, _matched(spark, keys, base, keys.columns).whenMatchedDelete(), base)


def _matched(spark: SparkSession, rows: DataFrame, base: Base, key: Sequence[str]) -> DeltaMergeBuilder:
    """Return a merge of rows with those of the same key in a part of a table, before it is said what happens to them."""
    from delta.tables import DeltaTable as SparkDeltaTable

    same_key = " AND ".join([*base.conditions("old."), *(f"old.{quoted(name)} = new.{quoted(name)}" for name in key)])
    return SparkDeltaTable.forPath(spark, base.path).alias("old").merge(rows.alias("new"), same_key)


def _execute(spark: SparkSession, merge: DeltaMergeBuilder, base: Base) -> None:
    with only_from(base) as options:
        try:
            for name, value in options.items():
                spark.conf.set(_OF_A_MERGE[name], value)
            merge.execute()
        finally:
            for name in options:
                spark.conf.unset(_OF_A_MERGE[name])


def _changed(base: Base) -> ChangedMeanwhile:
    part = " and ".join(f"{name} = {value}" for name, value in base.part.items())
    rows = f" with {part}" if part else ""
    return ChangedMeanwhile(
        f"Another process wrote rows of {base.path.rsplit('/', 1)[-1]}{rows} while this one computed its own, so these were "
        "not written. Wait until the other one ends, and run the same command again."
    )


def _writes(table: DeltaTable, base: Base) -> int:
    number = table.transaction_version(base.app_id)
    return -1 if number is None else number


def _has_commit(table: DeltaTable, base: Base, mark: str) -> bool:
    newer = table.version() - (-1 if base.version is None else base.version)
    return any(mark in (commit.get("userMetadata") or "") for commit in commits_of(table, base.path, newer))


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else text_literal(value)
