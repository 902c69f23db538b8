"""The first pass over text files: what must be known about all files before a row of one can be read.

In: lines of ``text_lines``. Out: a ``Survey``: the number of lines of each block, the first line of each file, which files
may have records over several lines, and for JSON Lines the keys. One small row per block reaches the driver.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from qarm_features.catalog.reading import json_records
from qarm_features.catalog.reading.csv_records import CsvFormat, blanks
from qarm_features.catalog.reading.text_lines import Run, decode_lines, runs

_SCHEMA = (
    "file string, block long, lines long, filled long, open long, first binary, first_line long, keys array<string>"
)
_KEY_SAMPLE = 1000  # lines of a block whose keys are looked at


@dataclass
class BlockCount:
    """What the first pass finds in one block.

    Attributes:
        lines: Number of lines.
        filled: Number of lines that are not blank.
        open: Number of lines that open a quoted field and do not close it.
        first: First line of the file that is not blank, in the block at its start.
        first_line: Number of that line, from 1; 0 if there is none.
        keys: Keys of the objects at the start of the block.
    """

    lines: int = 0
    filled: int = 0
    open: int = 0
    first: bytes | None = None
    first_line: int = 0
    keys: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class Survey:
    """What is known about the files of a source.

    Attributes:
        lines_before: Number of lines of a file before each of its blocks, by file and block.
        first_lines: Number and bytes of the first line of each file that is not blank. Files without one are absent.
        open_files: Files with a line that opens a quoted field and does not close it.
        filled: Number of lines that are not blank, in all files.
        keys: Keys of the objects that were looked at.
    """

    lines_before: dict[tuple[str, int], int]
    first_lines: dict[str, tuple[int, bytes]]
    open_files: frozenset[str]
    filled: int
    keys: tuple[str, ...]


def survey_files(lines: DataFrame, *, encoding: str, form: CsvFormat | None, all_keys: bool = False) -> Survey:
    """Read all lines once.

    Args:
        lines: Lines of ``read_lines``.
        encoding: Encoding of the lines.
        form: Form of CSV lines; None for JSON Lines.
        all_keys: Whether to look at the keys of all lines; False looks at the start of each block.
    """

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts: dict[tuple[str, int], BlockCount] = defaultdict(BlockCount)
        for run in runs(batches):
            text, found = decode_lines(run.lines, encoding), counts[run.file, run.block]
            _count_lines(run, text, found, also_tabs=form is None)
            if form is None:
                _add_keys(text if all_keys else text[: max(0, _KEY_SAMPLE - run.start)], found)
            elif form.quote is not None:
                quoted = text.filter(pc.fill_null(pc.match_substring(text, form.quote), False))
                found.open += sum(map(form.is_open, quoted.to_pylist()))
        rows = [
            (file, block, c.lines, c.filled, c.open, c.first, c.first_line, list(c.keys))
            for (file, block), c in counts.items()
        ]
        columns = [list(column) for column in zip(*rows)] or [[] for _ in range(8)]
        types = [pa.string(), *[pa.int64()] * 4, pa.binary(), pa.int64(), pa.list_(pa.string())]
        names = ["file", "block", "lines", "filled", "open", "first", "first_line", "keys"]
        yield pa.RecordBatch.from_arrays([pa.array(c, t) for c, t in zip(columns, types)], names)

    found = lines.mapInArrow(count, _SCHEMA).collect()
    before: dict[tuple[str, int], int] = {}
    total: dict[str, int] = defaultdict(int)
    first_lines: dict[str, tuple[int, bytes]] = {}
    for row in sorted(found, key=lambda row: (row["file"], row["block"])):
        if row["first_line"] and row["file"] not in first_lines:
            first_lines[row["file"]] = (total[row["file"]] + row["first_line"], bytes(row["first"]))
        before[row["file"], row["block"]] = total[row["file"]]
        total[row["file"]] += row["lines"]
    return Survey(
        before,
        first_lines,
        frozenset(row["file"] for row in found if row["open"]),
        sum(row["filled"] for row in found),
        tuple(sorted({key for row in found for key in row["keys"]})),
    )


def blank(text: pa.Array, *, also_tabs: bool) -> pa.Array:
    """Return (B,) bool, True for lines that hold no record. A line that cannot be decoded is not blank."""
    stripped = pc.utf8_trim(text, blanks(also_tabs=also_tabs))
    return pc.fill_null(pc.equal(stripped, ""), False)


def without_mark(text: pa.Array) -> pa.Array:
    """Return lines without a byte order mark at the start of the first."""
    if not (text[0].as_py() or "").startswith("\ufeff"):
        return text
    return pa.concat_arrays([pa.array([text[0].as_py().removeprefix("\ufeff")]), text[1:]])


def _count_lines(run: Run, text: pa.Array, count: BlockCount, *, also_tabs: bool) -> None:
    count.lines += len(text)
    filled = pc.invert(blank(text, also_tabs=also_tabs))
    count.filled += pc.sum(filled).as_py() or 0
    if not count.first_line and (place := pc.index(filled, pa.scalar(True)).as_py()) >= 0:
        count.first, count.first_line = run.lines[place].as_py(), run.start + place + 1


def _add_keys(text: pa.Array, count: BlockCount) -> None:
    for line in text.to_pylist():
        entries = json_records.parse(line) if line else None
        if isinstance(entries, dict):
            count.keys.update(dict.fromkeys(entries))
