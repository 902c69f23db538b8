"""JSON lines become columns of text.

In: decoded lines with their numbers. Out: the columns that the settings name and the columns about the row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from qarm_features.catalog.reading import json_records
from qarm_features.catalog.reading.csv_columns import Parsed
from qarm_features.catalog.reading.csv_records import is_blank
from qarm_features.catalog.reading.text_lines import shown

HALF_A_CHARACTER = "a text holds one half of a surrogate pair"


def parse_lines(
    lines: Iterable[tuple[int, str | None, bytes]],
    columns: tuple[str, ...],
    *,
    as_json: frozenset[str],
    folders: dict[str, str | None],
    invalid: str,
) -> Parsed:
    """Read lines of which each is an object.

    Args:
        lines: Number, text (None where the bytes are not valid in the encoding) and bytes of each line. Blank lines are
            skipped.
        columns: Names of the columns.
        as_json: Names of the columns whose lists stay JSON. All others become text.
        folders: Columns that the folders of the file give, for objects that lack them.
        invalid: Reason for a line that is not valid in the encoding.
    """
    values: list[list[str | None]] = [[] for _ in columns]
    raw: list[str] = []
    reasons: list[str | None] = []
    numbers: list[int] = []
    for number, text, bytes_ in lines:
        if text is not None and is_blank(text, also_tabs=True):
            continue
        entries = invalid if text is None else json_records.parse(text)
        row = _row(entries, columns, as_json, folders) if isinstance(entries, dict) else entries
        numbers.append(number)
        raw.append(shown(bytes_) if text is None else text)
        reasons.append(row if isinstance(row, str) else None)
        for index, column in enumerate(values):
            column.append(None if isinstance(row, str) else row[index])
    return Parsed(
        [pa.array(column, pa.string()) for column in values],
        pa.array(raw, pa.string()),
        pa.array(reasons, pa.string()),
        pa.array(numbers, pa.int64()),
        pa.repeat(pa.scalar(1, pa.int32()), len(raw)),
    )


def _row(
    entries: dict[str, Any], columns: tuple[str, ...], as_json: frozenset[str], folders: dict[str, str | None]
) -> list[str | None] | str:
    row = []
    for name in columns:
        value = entries.get(name, folders.get(name))
        row.append(json_records.as_json(value) if name in as_json else json_records.as_text(value))
    try:
        "".join(value for value in row if value).encode()
    except UnicodeEncodeError:
        return HALF_A_CHARACTER
    return row
