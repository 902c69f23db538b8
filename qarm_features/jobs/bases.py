"""What the rows of a job's tables were made from, so that the next run can add what came since.

In: the inputs of a success, the tables as they were then, and what else the job wants to know of it. Out: a file
``<artifacts>/runs/<job>-basis.json``. A next run that finds something in it changed does its whole work, and says why.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import write_json
from qarm_features.storage.change_feed import COMES, COMMIT, KIND, changes, commit_mark, why_no_feed
from qarm_features.storage.json_files import fingerprint
from qarm_features.storage.objects import AnyPath
from qarm_features.storage.tables import Table
from qarm_features.storage.warehouse import Warehouse

_NO_FILE = r"FILE_NOT_FOUND|FILE_NOT_EXIST|FileNotFoundException"


class WholeWork(Exception):
    """What came since the last run cannot be added to its rows. The message says why, after the word because.

    Attributes:
        level: Level of the log at which people are told.
    """

    level = logging.INFO


class NoBasis(WholeWork):
    """There was no last run, which nobody needs to be told."""

    level = logging.DEBUG


@dataclass(frozen=True)
class Basis:
    """The state of a job at its last success. The names of the fields are keys of the saved file.

    Attributes:
        inputs: State of all inputs from before the run, as ``skipping.inputs`` gives it.
        tables: State of each table that the job reads or writes, as ``mark`` gives it.
        facts: What else the job wants to know at its next run; values that JSON can hold.
    """

    inputs: Mapping[str, Any]
    tables: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)


def mark(warehouse: Warehouse, table: Table) -> list[Any] | None:
    """Return the state of a table: Delta's ID of it, the newest version with other rows, its time; None if there is none."""
    version = warehouse.data_version(table)
    return None if version is None else commit_mark(warehouse.path(table), version)


def files_mark(warehouse: Warehouse, table: Table, column: str, value: str) -> str | None:
    """Return the state of a part of a table, into whose other parts other jobs write; None if there is no table.

    Args:
        warehouse: Tables of the project.
        table: Table.
        column: Column that its files are partitioned by.
        value: Value of the part.
    """
    if not warehouse.exists(table):
        return None
    return fingerprint([Path(file).name for file in warehouse.files(table) if f"{column}={value}/" in file])


def read_basis(settings: Settings, job: str, *, whole: bool) -> Basis:
    """Return the state at the last success of a job.

    Args:
        settings: Settings of the project.
        job: Name of the job.
        whole: True if the user asks for the whole work.

    Raises:
        NoBasis: None is recorded.
        WholeWork: The user asks for the whole work.
    """
    if whole:
        raise WholeWork("--force asks for it")
    path = _path(settings, job)
    if not path.is_file():
        raise NoBasis("no earlier run is recorded")
    return Basis(**json.loads(path.read_text()))


def write_basis(settings: Settings, job: str, basis: Basis) -> None:
    """Record the state at a success of a job."""
    write_json(_path(settings, job), asdict(basis))


def require_same(before: Mapping[str, Any], now: Mapping[str, Any], what: str, *, but: Collection[str] = ()) -> None:
    """Check that values are those of the last success.

    Args:
        before: Values of the last success by name.
        now: Present values by name.
        what: Clause that says what happened to a value that is another one, after its name.
        but: Names whose values may differ.

    Raises:
        WholeWork: A value is another one, is there no more, or came since.
    """
    plain = json.loads(json.dumps(now))
    differing = [name for name in sorted({*before, *plain} - {*but}) if before.get(name) != plain.get(name)]
    if differing:
        raise WholeWork(f"{', '.join(differing)} {what}")


def changes_since(warehouse: Warehouse, table: Table, before: Any, now: Any) -> DataFrame:
    """Return the changes of a table since the last success, at a cost of these rows alone.

    Args:
        warehouse: Tables of the project.
        table: Table.
        before: Its ``mark`` at the last success.
        now: Its present ``mark``.

    Returns:
        Changed rows, with the columns of the change feed.

    Raises:
        WholeWork: The table keeps no feed of all of these changes.
    """
    if before is None or now is None:
        raise WholeWork(f"{table.name} was made anew")
    path = warehouse.path(table)
    if reason := why_no_feed(path, after=before, until=now):
        raise WholeWork(f"{table.name} {reason}")
    if before[1] == now[1]:
        return warehouse.read(table).limit(0).withColumns({KIND: F.lit(COMES[0]), COMMIT: F.lit(now[1])})
    return changes(warehouse.spark, path, after=before[1], until=now[1])


def counted(table: Table, changed: DataFrame, *aggregates: Column) -> Row:
    """Return aggregates over all changes of a table.

    Args:
        table: Table.
        changed: Rows of ``changes_since``.
        aggregates: Aggregates.

    Raises:
        WholeWork: A removal of old files, as by ``qarm vacuum``, also took files of the changes.
    """
    try:
        return changed.agg(*aggregates).collect()[0]
    except Exception as error:  # Spark's own classes have no common parent, and Java's reach Python under several names
        if not re.search(_NO_FILE, str(error)):
            raise
        raise WholeWork(f"files of the changes of {table.name} were removed") from error


def require_only_new(table: Table, changed: DataFrame) -> int:
    """Check that rows of a table came, and that none changed or left, and return their number.

    Args:
        table: Table.
        changed: Rows of ``changes_since``.

    Raises:
        WholeWork: A row changed or left.
    """
    new = F.count_if(F.col(KIND) == COMES[0]).alias("new")
    counts = counted(table, changed, F.count("*").alias("all"), new)
    if counts["all"] > counts["new"]:
        raise WholeWork(f"rows of {table.name} changed or left")
    return int(counts["new"])


def _path(settings: Settings, job: str) -> AnyPath:
    return settings.artifacts_path / "runs" / f"{job}-basis.json"
