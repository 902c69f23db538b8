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

from qarm_features.catalog.reading.csv_records import (
    MAY_BE_INSIDE,
    NOT_CLOSED,
    CsvFormat,
    Record,
    is_blank,
    over_lines,
)
from qarm_features.catalog.reading.survey import blank
from qarm_features.catalog.reading.text_lines import shown

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


def parse(
    batches: Iterable[tuple[int, pa.Array, pa.Array]], file: CsvFile, form: CsvFormat, *, invalid: str
) -> Iterator[Parsed]:
    """Read the lines of one file, or of a part of it that begins and ends between records.

    Args:
        batches: Batches of lines that follow each other: the number of the first line in its file, from 1; (B,) binary,
            the lines; and (B,) string, the decoded lines, null where the bytes are not valid.
        file: Columns and header of the file.
        form: Form of the lines.
        invalid: Reason for a line that is not valid in the encoding.
    """
    held: tuple[int, pa.Array, pa.Array] | None = None
    for batch in batches:
        parsed, held = _parse_batch(_joined(held, batch), file, form, invalid, is_last=False)
        yield from parsed
    if held is not None:
        yield from _parse_batch(held, file, form, invalid, is_last=True)[0]


def _parse_batch(
    batch: tuple[int, pa.Array, pa.Array], file: CsvFile, form: CsvFormat, invalid: str, *, is_last: bool
) -> tuple[list[Parsed], tuple[int, pa.Array, pa.Array] | None]:
    """Read a batch. Return its rows, and the lines from a record on that may go on in the next batch."""
    first, raw, text = batch
    numbers = np.arange(first, first + len(text))
    is_left = np.asarray(pc.invert(blank(text, also_tabs=False))) & (numbers > file.header_line)
    special = np.asarray(pc.is_null(text))
    if form.quote is not None:
        special = special | np.asarray(pc.fill_null(pc.match_substring(text, form.quote), False))
    read: list[Record] = []
    end = len(text)
    taken = 0
    for place in np.flatnonzero(special & is_left).tolist():
        if place < taken:
            continue
        line = text[place].as_py()
        if line is None:
            read.append(Record(first + place, 1, shown(raw[place].as_py()), invalid))
            continue
        fields = form.sized(form.split(line), file.size)
        if fields != NOT_CLOSED:
            read.append(Record(first + place, 1, line, fields))
            continue
        following = (text[later].as_py() for later in range(place + 1, len(text)))
        lines, fields, ended = over_lines(line, following, form, file.size)
        if ended and not is_last:
            end = place
            break
        taken = place + 1 + lines
        read += _of_several_lines(first + place, [line, *text[place + 1 : taken].to_pylist()], fields)
        is_left[place + 1 : taken] = False
    is_left[end:] = False
    is_left &= ~special
    plain, numbers = text.filter(pa.array(is_left)), numbers[is_left]
    fits = np.asarray(pc.equal(pc.add(pc.count_substring(plain, form.delimiter), 1), file.size))
    parsed = [_cut(plain.filter(pa.array(fits)), numbers[fits], file, form)] if fits.any() else []
    for number, line in zip(numbers[~fits].tolist(), plain.filter(pa.array(~fits)).to_pylist()):
        read.append(Record(number, 1, line, form.sized(form.split(line), file.size)))
    parsed += _gather(read, file)
    return parsed, None if end == len(text) else (first + end, raw[end:], text[end:])


def _of_several_lines(number: int, lines: list[str], fields: list[str] | str) -> Iterator[Record]:
    """Return one record of several lines, or a rejected record for each of them."""
    filled = [place for place, line in enumerate(lines) if not is_blank(line)]
    if isinstance(fields, list):
        yield Record(number, len(filled), "\n".join(lines), fields)
        return
    for place in filled:
        yield Record(number + place, 1, lines[place], NOT_CLOSED if place == 0 else MAY_BE_INSIDE)


def _joined(
    held: tuple[int, pa.Array, pa.Array] | None, batch: tuple[int, pa.Array, pa.Array]
) -> tuple[int, pa.Array, pa.Array]:
    if held is None:
        return batch
    return held[0], pa.concat_arrays([held[1], batch[1]]), pa.concat_arrays([held[2], batch[2]])


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
