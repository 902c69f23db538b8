"""The CSV records of whole, quoted files are those of Python's csv module, and a broken line costs itself alone."""

from __future__ import annotations

import csv
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from qarm_features.catalog.csv_records import MAX_RECORD_CHARS, NOT_CLOSED, CsvFormat, Line, records

FORM = CsvFormat(",", '"')
FIELDS = st.text(st.sampled_from("a\"', \n|"), max_size=8)


def read(text, size, form=FORM):
    lines = [Line(number, line) for number, line in enumerate(text.split("\n"), start=1)]
    return list(records(lines, form, size, invalid="broken"))


@given(st.lists(st.lists(FIELDS, min_size=3, max_size=3), max_size=8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_a_csv_writer_wrote_is_read_back(rows, all_quoted):
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL, lineterminator="\n").writerows(rows)

    assert [record.fields for record in read(stream.getvalue(), 3)] == rows


@given(st.lists(st.text(st.sampled_from('ab",'), min_size=1, max_size=10), min_size=1, max_size=8), st.integers(1, 4))
@settings(max_examples=500, deadline=None)
def test_every_line_is_in_exactly_one_record_or_is_rejected_by_its_number(lines, size):
    found = read("\n".join(lines), size)

    covered = [number for r in found for number in range(r.number, r.number + r.lines)]
    assert covered == list(range(1, len(lines) + 1))
    for record in found:
        if isinstance(record.fields, list):
            assert len(record.fields) == size
            text = "\n".join(lines[record.number - 1 : record.number - 1 + record.lines])
            assert [record.fields] == list(csv.reader(io.StringIO(text, newline=""), strict=True))


@given(st.lists(st.text(st.sampled_from('ab",'), min_size=1, max_size=6), min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_lines_without_quotes_are_never_lost_to_a_quote_before_them_that_is_not_closed(lines):
    text = "\n".join([*lines, 'x,"open', *["1,2"] * 5])

    found = {record.number: record.fields for record in read(text, 2)}

    assert [found.get(len(lines) + 2 + n) for n in range(5)] == [["1", "2"]] * 5


def test_a_field_that_is_longer_than_any_text_was_never_closed():
    long = "x" * 1000
    lines = ['1,"a', *[f"{n},{long}" for n in range(2, 2 + MAX_RECORD_CHARS // 1000 + 5)], '9,b"']

    found = read("\n".join(lines), 2)

    assert (found[0].fields, found[1].fields) == (NOT_CLOSED, ["2", long])
    assert len(found) == len(lines)
