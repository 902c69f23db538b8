"""CSV lines become columns of text. Lines without quotes are cut by Arrow, all of a batch at once.

In: decoded lines with their numbers, and what is known about their file. Out: Arrow batches with the columns that the
settings name and the private columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qarm_features.catalog.csv_records import CsvFormat, Line, Record, records
from qarm_features.catalog.survey import blank
from qarm_features.catalog.text_lines import shown

_BATCH = 10_000


@dataclass(frozen=True)
class Constant:
    """A column that has the same value in all rows of a file."""

    value: str | None


@dataclass(frozen=True)
class CsvFile:
    """What is known about one CSV file.

    Attributes:
        size: Number of fields of a record.
        places: Place of each column in a record, from 0, or its value where the folders of the file give it.
        header_line: Number of the header's line, from 1; 0 if the file has none.
    """

    size: int
    places: tuple[int | Constant, ...]
    header_line: int


@dataclass(frozen=True)
class Parsed:
    """Rows of one file, in any order.

    Attributes:
        columns: (B,) strings of each column, null where a row cannot be read.
        raw: (B,) strings, the records as they stand in the file.
        unreadable: (B,) strings, the reasons for which rows cannot be read, else null.
        line: (B,) int64, the number of the first line.
        lines: (B,) int32, the number of lines that are not blank.
    """

    columns: list[pa.Array]
    raw: pa.Array
    unreadable: pa.Array
    line: pa.Array
    lines: pa.Array


def parse_lines(
    raw: pa.Array, text: pa.Array, first: int, file: CsvFile, form: CsvFormat, *, invalid: str
) -> Iterator[Parsed]:
    """Read lines of which each is a record.

    Args:
        raw: (B,) binary, the lines.
        text: (B,) string, the decoded lines, null where the bytes are not valid.
        first: Number of the first line in its file, from 1.
        file: What is known about the file.
        form: Form of the lines.
        invalid: Reason for a line that is not valid in the encoding.
    """
    numbers = np.arange(first, first + len(text))
    kept = pc.and_(pc.invert(blank(text, also_tabs=False)), pa.array(numbers != file.header_line))
    raw, text, numbers = raw.filter(kept), text.filter(kept), numbers[kept.to_numpy(zero_copy_only=False)]
    fields = pc.add(pc.count_substring(text, form.delimiter), 1)
    simple = pc.fill_null(pc.equal(fields, file.size), False)
    if form.quote is not None:
        simple = pc.and_(simple, pc.fill_null(pc.invert(pc.match_substring(text, form.quote)), False))
    if pc.any(simple).as_py():
        yield _cut(text.filter(simple), numbers[simple.to_numpy(zero_copy_only=False)], file, form)
    others = pc.invert(simple)
    if pc.any(others).as_py():
        rest = zip(
            numbers[others.to_numpy(zero_copy_only=False)].tolist(),
            text.filter(others).to_pylist(),
            raw.filter(others).to_pylist(),
        )
        read = (
            Record(number, 1, line, form.sized(form.split(line), file.size))
            if line is not None
            else Record(number, 1, shown(bytes_), invalid)
            for number, line, bytes_ in rest
        )
        yield from _gather(read, file)


def parse_file(
    lines: Iterable[tuple[int, str | None, bytes]], file: CsvFile, form: CsvFormat, *, invalid: str
) -> Iterator[Parsed]:
    """Read all lines of a file whose records may extend over several lines.

    Args:
        lines: Number, text and bytes of each line, in their order.
        file: What is known about the file.
        form: Form of the lines.
        invalid: Reason for a line that is not valid in the encoding.
    """
    broken: dict[int, bytes] = {}

    def after_header() -> Iterator[Line]:
        for number, text, bytes_ in lines:
            if number > file.header_line:
                if text is None:
                    broken[number] = bytes_
                yield Line(number, text)

    found = (
        record if record.text is not None else record._replace(text=shown(broken.pop(record.number)))
        for record in records(after_header(), form, file.size, invalid=invalid)
    )
    yield from _gather(found, file)


def _cut(text: pa.Array, numbers: np.ndarray, file: CsvFile, form: CsvFormat) -> Parsed:
    """Cut lines that have no quotes and the right number of fields."""
    fields = pc.split_pattern(text, form.delimiter).flatten()
    starts = np.arange(len(text)) * file.size
    columns = [
        fields.take(pa.array(starts + place)) if isinstance(place, int) else _repeated(place.value, len(text))
        for place in file.places
    ]
    nothing, one = pa.nulls(len(text), pa.string()), pa.scalar(1, pa.int32())
    return Parsed(columns, text, nothing, pa.array(numbers, pa.int64()), pa.repeat(one, len(text)))


def _gather(read: Iterable[Record], file: CsvFile) -> Iterator[Parsed]:
    """Gather records into arrays of bounded size."""
    read = iter(read)
    while batch := list(itertools.islice(read, _BATCH)):
        rows = [record.fields if isinstance(record.fields, list) else None for record in batch]
        columns = [
            pa.array([row and row[place] for row in rows], pa.string())
            if isinstance(place, int)
            else _repeated(place.value, len(batch))
            for place in file.places
        ]
        yield Parsed(
            columns,
            pa.array([record.text for record in batch], pa.string()),
            pa.array([None if isinstance(record.fields, list) else record.fields for record in batch], pa.string()),
            pa.array([record.number for record in batch], pa.int64()),
            pa.array([record.lines for record in batch], pa.int32()),
        )


def _repeated(value: str | None, size: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), size)
