"""The form in which sources reach the checks: the user's columns, and private columns about the row itself.

In: nothing. Out: the names of the private columns, and ``SourceRows``. A source that has such a column is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pyspark.sql import DataFrame

RAW = "__qarm_raw__"  # string: the row as it stands in its file. Text formats only
UNREADABLE = "__qarm_unreadable__"  # string: reason for which the row cannot be read, null where it can
FILE = "__qarm_file__"  # string: URI of the file. Absent for tables
LINE = "__qarm_line__"  # long: number of the row's first line in its file, from 1. Text formats only
LINES = "__qarm_lines__"  # int: number of the row's lines that are not blank. Text formats only
PRIVATE = (RAW, UNREADABLE, FILE, LINE, LINES)


class IngestError(ValueError):
    """The source does not fit the settings, or too large a share of its rows is rejected."""


def no_such_column(section: str, missing: Iterable[str], present: Iterable[str]) -> str:
    """Return the message about columns that the settings name and a source lacks."""
    return (
        f"The source of {section} has no column {', '.join(missing)}. Present: {', '.join(present)}. Change {section}: in "
        "qarm.yaml."
    )


def refuse_private(section: str, columns: Iterable[str]) -> None:
    """Refuse a source that has a column with the name of a private one, in capitals or not.

    Args:
        section: Name of the section of the settings, for the message.
        columns: Names of the columns of the source.

    Raises:
        IngestError: There is such a column.
    """
    taken = [name for name in columns if name.lower() in PRIVATE]
    if taken:
        raise IngestError(
            f"The source of {section} has the column {', '.join(taken)}, a name that ingest needs for itself. Rename it."
        )


class SourceRows(NamedTuple):
    """Rows of a source.

    Attributes:
        frame: The user's columns and the private columns of the format.
        lines: Number of lines that are neither blank nor a header, counted apart from the rows. None for other formats.
    """

    frame: DataFrame
    lines: int | None
