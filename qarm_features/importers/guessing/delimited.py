"""The columns of CSV of an unknown form: its delimiter, and whether it has a header.

In: the first lines of a file. Out: the values by column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from qarm_features.importers.numbers import number_of
from qarm_features.importers.plan import ImportFailed, Setting

_DELIMITERS = (",", ";", "\t", "|", "::")


def csv_columns(
    lines: list[str], file: Path, *, most_rows: int
) -> tuple[dict[str, list[str | None]], dict[str, Setting]]:
    """Returns the columns of the first lines of a CSV file, and the settings by which it is read.

    Args:
        lines: Lines.
        file: Their file, for messages.
        most_rows: Highest number of rows, at least 1.

    Raises:
        ImportFailed: There is one column only.
    """
    delimiter = max(_DELIMITERS, key=lambda one: _agreement(lines, one))
    if _agreement(lines, delimiter)[0] == 0:
        raise ImportFailed(
            f"{file} has one column only between commas, semicolons, tabs, bars or double colons: {lines[0][:80]!r}."
        )
    rows = list(islice(split_rows(lines, delimiter), most_rows))
    width = len(rows[0])
    settings = {}
    if delimiter != ",":
        settings["delimiter"] = Setting(delimiter, "Guessed: it gives most lines the same number of fields.")
    names = [name.strip() for name in rows[0]]
    is_header = not any(number_of(name) is not None for name in names) and all(names) and len(set(names)) == width
    if is_header:
        rows = rows[1:]
    else:
        names = [str(place) for place in range(1, width + 1)]
        settings["header"] = Setting(
            False, "Guessed: the first line holds numbers, or names that are empty or the same."
        )
    rows = [row for row in rows if len(row) == width]
    return {name: [row[place].strip() or None for row in rows] for place, name in enumerate(names)}, settings


def _agreement(lines: list[str], delimiter: str) -> tuple[int, int]:
    """Returns how many lines have the number of fields of the first, and that number; zeros if it is one."""
    widths = [len(row) for row in islice(split_rows(lines[:200], delimiter), 200)]
    return (widths.count(widths[0]), widths[0]) if widths and widths[0] > 1 else (0, 0)


def split_rows(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    """Returns the fields of each record.

    Args:
        lines: Lines. A quoted field may have several.
        delimiter: Text between two fields.
    """
    if len(delimiter) > 1:
        return (line.split(delimiter) for line in lines if line)
    return _quoted_rows(lines, delimiter)


def _quoted_rows(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    """Yields rows up to a quote that is never closed, which ingest will count."""
    try:
        yield from (row for row in csv.reader(lines, delimiter=delimiter) if row)
    except csv.Error:
        return
