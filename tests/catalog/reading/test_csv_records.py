"""The CSV records of whole, quoted files are those of Python's csv module, and a broken line costs itself alone."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from qarm_features.catalog.reading.csv_columns import CsvFile, parse
from qarm_features.catalog.reading.csv_records import MAX_RECORD_CHARS, NOT_CLOSED, CsvFormat

FORM = CsvFormat(",", '"')
BATCH = st.integers(1, 5)
FIELDS = st.text(st.sampled_from("a\"', \n|"), max_size=8)


def read(text, size, batch=1000):
    """Records as (number of the first line, number of lines, fields or reason), in the order of the lines."""
    lines = text.split("\n")
    arrays = [
        (n + 1, pa.array([x.encode() for x in lines[n : n + batch]], pa.binary())) for n in range(0, len(lines), batch)
    ]
    file = CsvFile(size, tuple(range(size)), 0)
    found = []
    for part in parse([(first, raw, raw.cast(pa.string())) for first, raw in arrays], file, FORM, invalid="broken"):
        rows = list(zip(*[column.to_pylist() for column in part.columns]))
        reasons = part.unreadable.to_pylist()
        assert all((reason is None) == (None not in row) for reason, row in zip(reasons, rows))
        fields = [list(row) if reason is None else reason for row, reason in zip(rows, reasons)]
        found += zip(part.line.to_pylist(), part.lines.to_pylist(), fields)
    return sorted(found, key=lambda record: record[0])


@given(st.lists(st.lists(FIELDS, min_size=3, max_size=3), max_size=8), st.booleans(), BATCH)
@settings(max_examples=300, deadline=None, derandomize=True)  # fields of quotes and commas alone can be ambiguous
def test_what_a_csv_writer_wrote_is_read_back(rows, all_quoted, batch):
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL, lineterminator="\n").writerows(rows)

    assert [fields for _, _, fields in read(stream.getvalue(), 3, batch)] == rows


@given(
    st.lists(st.text(st.sampled_from('ab",'), min_size=1, max_size=10), min_size=1, max_size=8),
    st.integers(1, 4),
    BATCH,
)
@settings(max_examples=500, deadline=None)
def test_every_line_is_in_exactly_one_record_or_is_rejected_by_its_number(lines, size, batch):
    found = read("\n".join(lines), size, batch)

    covered = [line for number, taken, _ in found for line in range(number, number + taken)]
    assert covered == list(range(1, len(lines) + 1))
    for number, taken, fields in found:
        if isinstance(fields, list):
            text = "\n".join(lines[number - 1 : number - 1 + taken])
            assert [fields] == list(csv.reader(io.StringIO(text, newline=""), strict=True))


@given(st.lists(st.text(st.sampled_from('ab",'), min_size=1, max_size=6), min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_lines_without_quotes_are_never_lost_to_a_quote_before_them_that_is_not_closed(lines):
    text = "\n".join([*lines, 'x,"open', *["1,2"] * 5])

    found = {number: fields for number, _, fields in read(text, 2)}

    assert [found.get(len(lines) + 2 + n) for n in range(5)] == [["1", "2"]] * 5


def test_a_field_that_is_longer_than_any_text_was_never_closed():
    long = "x" * 1000
    lines = ['1,"a', *[f"{n},{long}" for n in range(2, 2 + MAX_RECORD_CHARS // 1000 + 5)], '9,b"']

    found = read("\n".join(lines), 2)

    assert (found[0][2], found[1][2]) == (NOT_CLOSED, ["2", long])
    assert len(found) == len(lines)
