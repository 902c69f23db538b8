"""How long Delta keeps the earlier versions of a table, which releases name, and which versions it can still read.

In: a table's folder or URI. Out: its retention as table properties, the moment when a version may cease to be readable, and a
removal of old files (``VACUUM``) that spares the versions that are named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileType, PyFileSystem

from qarm_features.storage.sql_names import files_at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOG, FILES = "delta.logRetentionDuration", "delta.deletedFileRetentionDuration"
_DEFAULTS = {LOG: timedelta(days=30), FILES: timedelta(days=7)}  # Delta's own
_UNITS = {"week": 7.0, "day": 1.0, "hour": 1 / 24, "minute": 1 / 1440, "second": 1 / 86400}
_FILES_PER_LOOK = 1_000
# Delta refuses or ignores a shorter time than the table's own retention, which spares all versions. A listing has 10,000
# tasks by default, even of a table of ten files.
_CHECK = "spark.databricks.delta.retentionDurationCheck.enabled"
_IGNORE = "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled"
_LISTING = "spark.sql.sources.parallelPartitionDiscovery.parallelism"
SHORTEST_HOURS = 168  # VACUUM refuses less, because readers and writers of the last days may need the files


def retention_properties(days: int) -> dict[str, str]:
    """Return the table properties that keep earlier versions readable for so many days."""
    return {LOG: f"interval {days} days", FILES: f"interval {days} days"}


def retention(path: str, name: str) -> timedelta:
    """Return how long a table keeps its log (``LOG``) or its deleted files (``FILES``)."""
    return _retention(DeltaTable(path), name)


def raise_retention(spark: SparkSession, path: str, days: int) -> bool:
    """Let a table keep its earlier versions for at least so many days. A longer time is left as it is.

    Returns:
        True if the table was changed, by one commit without rows.
    """
    table, wanted = DeltaTable(path), retention_properties(days)
    short = {name: value for name, value in wanted.items() if _retention(table, name) < timedelta(days=days)}
    if short:
        assignments = ", ".join(f"'{name}' = '{value}'" for name, value in short.items())
        spark.sql(f"ALTER TABLE {files_at(path)} SET TBLPROPERTIES ({assignments})")
    return bool(short)


@dataclass(frozen=True)
class VersionState:
    """Whether a version of a table can be read.

    Attributes:
        fault: Reason why it cannot be read; None if it can.
        until: Moment from which Delta may drop it; None for the newest version, and for one that cannot be read.
        cause: Table property that sets the moment, or ``VACUUM``.
    """

    fault: str | None = None
    until: datetime | None = None
    cause: str = ""


def version_state(path: str, version: int) -> VersionState:
    """Tell if a version of a table can be read, and until when it surely can.

    Args:
        path: Folder or URI of the table.
        version: Delta version.
    """
    try:
        newest = DeltaTable(path)
        if version == newest.version():
            return _files_state(newest) or VersionState()
        table = DeltaTable(path, version=version)
    except DeltaError:
        return VersionState(fault="its log was cleaned up")
    missing = _files_state(table)
    if missing is not None:
        return missing
    # The log of a version may go when it is older than the retention, its files so long after a later commit removed them.
    written, followed = _written(newest, version), _written(newest, version + 1)
    ends = [(written + _retention(newest, LOG), LOG), (followed + _retention(newest, FILES), FILES)]
    until, cause = min(ends)
    return VersionState(until=until, cause=cause)


def hours_to_keep(path: str, version: int, *, now: datetime) -> int:
    """Return the hours that a ``VACUUM`` must retain so that a version stays readable, at least ``SHORTEST_HOURS``.

    Args:
        path: Folder or URI of the table.
        version: Delta version, which can be read.
        now: Moment of the removal.
    """
    newest = DeltaTable(path)
    if version == newest.version():
        return SHORTEST_HOURS
    age = now - _written(newest, version)
    return max(SHORTEST_HOURS, int(age / timedelta(hours=1)) + 2)


def vacuum(spark: SparkSession, path: str, hours: int, *, dry_run: bool) -> int:
    """Remove the files that no version of the last hours needs, or count them, and return their number.

    Args:
        spark: Session with Delta.
        path: Folder or URI of the table.
        hours: Hours to retain, at least ``SHORTEST_HOURS``.
        dry_run: Count the files and remove none.
    """
    command = f"VACUUM {files_at(path)} RETAIN {hours} HOURS"
    conf = {_CHECK: "false", _IGNORE: "false", _LISTING: str(4 * spark.sparkContext.defaultParallelism)}
    before = {name: spark.conf.get(name, None) for name in conf}
    for name, value in conf.items():
        spark.conf.set(name, value)
    try:
        found = spark.sql(f"{command} DRY RUN").count()
        if not dry_run and found:
            spark.sql(command)
    finally:
        for name, earlier in before.items():
            if earlier is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, earlier)
    return found


def _retention(table: DeltaTable, name: str) -> timedelta:
    text = table.metadata().configuration.get(name)
    if text is None:
        return _DEFAULTS[name]
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(week|day|hour|minute|second)s?", text.lower())
    return timedelta(days=sum(float(number) * _UNITS[unit] for number, unit in parts))


def _written(table: DeltaTable, version: int) -> datetime:
    """Return when a version was written; the oldest known moment for one whose entry in the log is gone."""
    history = {entry["version"]: entry["timestamp"] for entry in table.history() if "version" in entry}
    milliseconds = history.get(version, min(history.values(), default=0))
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _files_state(table: DeltaTable) -> VersionState | None:
    """Return a fault if files of a version are gone; None if all are there."""
    files = PyFileSystem(DeltaStorageHandler(table.table_uri))
    names = pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()
    for start in range(0, len(names), _FILES_PER_LOOK):
        found = files.get_file_info(names[start : start + _FILES_PER_LOOK])
        gone = [file.path for file in found if file.type == FileType.NotFound]
        if gone:
            return VersionState(fault=f"files of it were removed, {gone[0]} among them", cause="VACUUM")
    return None
