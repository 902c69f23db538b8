"""Lines of a CSV file become records. A line that cannot be read costs itself and nothing else.

In: the decoded lines of one file, in their order. Out: the fields of each record, or the reason for which its first line
is rejected. A field may be quoted; a quoted field may hold delimiters, doubled quotes and line breaks. Where a quoted
field is not closed, only the line that opens it is rejected, and reading continues with the next line. ::

    1,Lamp,5            fields 1 | Lamp | 5
    2,"Big, red",4      fields 2 | Big, red | 4
    3,"Cup,3            rejected: a quoted field is not closed
    4,Pen,2             fields 4 | Pen | 2
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

MAX_RECORD_CHARS = 2**20  # a quoted field that is longer than this was most likely never closed
NOT_CLOSED = "a quoted field is not closed"
TEXT_AFTER_QUOTE = "text follows a closing quote"
MAY_BE_INSIDE = "the line may belong to a quoted field of an earlier line"
FEWER_FIELDS = "the row has fewer fields than the header"
MORE_FIELDS = "the row has more fields than the header"


@dataclass(frozen=True)
class CsvFormat:
    """The form of CSV lines.

    Attributes:
        delimiter: Text between two fields, of 1 character or more.
        quote: Character that encloses a field; None for files without quotes.
    """

    delimiter: str
    quote: str | None

    def split(self, text: str) -> list[str] | str:
        """Return the fields of a record, or the reason for which it cannot be read.

        Args:
            text: The record, without the line break at its end.

        Example:
            >>> CsvFormat(",", '"').split('1,"a ""b"", c",')
            ['1', 'a "b", c', '']
            >>> CsvFormat("::", None).split("1::2")
            ['1', '2']
            >>> CsvFormat(",", '"').split('1,"a')
            'a quoted field is not closed'
        """
        quote, delimiter = self.quote, self.delimiter
        if quote is None or quote not in text:
            return text.split(delimiter)
        fields = []
        start = 0
        while True:
            if text.startswith(quote, start):
                end = self.closing_quote(text, start + 1)
                if end < 0:
                    return NOT_CLOSED
                fields.append(text[start + 1 : end].replace(quote + quote, quote))
                start = end + 1
                if start == len(text):
                    return fields
                if not text.startswith(delimiter, start):
                    return TEXT_AFTER_QUOTE
            else:
                end = text.find(delimiter, start)
                if end < 0:
                    return [*fields, text[start:]]
                fields.append(text[start:end])
                start = end
            start += len(delimiter)

    def closing_quote(self, text: str, start: int) -> int:
        """Return the place of the first quote from ``start`` that is not doubled, or -1."""
        assert self.quote is not None
        place = text.find(self.quote, start)
        while place >= 0 and text.startswith(self.quote, place + 1):
            place = text.find(self.quote, place + 2)
        return place

    def is_open(self, text: str) -> bool:
        """Return True if a quoted field begins on this line and does not end on it."""
        return self.quote is not None and self.quote in text and self.split(text) == NOT_CLOSED

    def sized(self, fields: list[str] | str, size: int) -> list[str] | str:
        """Return the fields if their number is ``size``, else the reason for which the record cannot be read."""
        if isinstance(fields, str) or len(fields) == size:
            return fields
        return FEWER_FIELDS if len(fields) < size else MORE_FIELDS


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        number: Number of the line in its file, from 1.
        text: The line without its line break; None if its bytes are not valid in the encoding.
    """

    number: int
    text: str | None


class Record(NamedTuple):
    """A record, or a line that cannot be read.

    Attributes:
        number: Number of the record's first line.
        lines: Number of its lines that are not blank.
        text: The record as it stands in the file; None if its bytes are not valid in the encoding.
        fields: Its fields, or the reason for which it cannot be read.
    """

    number: int
    lines: int
    text: str | None
    fields: list[str] | str


def records(lines: Iterable[Line], form: CsvFormat, size: int, *, invalid: str) -> Iterator[Record]:
    """Read the records of one file that may extend over several lines.

    Args:
        lines: All lines of the file after its header, in their order. Blank lines outside quoted fields are skipped.
        form: Form of the lines.
        size: Number of fields of a record.
        invalid: Reason for a line that is not valid in the encoding.

    Yields:
        One record for each record or rejected line. Each line that is not blank is in exactly one of them.
    """
    source = iter(lines)
    waiting: deque[Line] = deque()  # lines that were read ahead of a record that turned out not to reach them
    while (line := waiting.popleft() if waiting else next(source, None)) is not None:
        if line.text is None:
            yield Record(line.number, 1, None, invalid)
        elif not is_blank(line.text):
            fields = form.sized(form.split(line.text), size)
            if fields != NOT_CLOSED:
                yield Record(line.number, 1, line.text, fields)
                continue
            rest, fields = _over_lines(line, waiting, source, form, size)
            inside = [waiting.popleft() for _ in range(rest)]
            if isinstance(fields, str):
                for part in (line, *inside):
                    if not is_blank(part.text or "x"):
                        yield Record(part.number, 1, part.text, NOT_CLOSED if part is line else MAY_BE_INSIDE)
            else:
                texts = [line.text, *(part.text or "" for part in inside)]
                filled = sum(not is_blank(text) for text in texts)
                yield Record(line.number, filled, "\n".join(texts), fields)


def is_blank(text: str) -> bool:
    """Return True for a line that holds no record: it is empty or has spaces alone. Tabs may be delimiters."""
    return not text.strip(" \r")


def _over_lines(
    first: Line, waiting: deque[Line], source: Iterator[Line], form: CsvFormat, size: int
) -> tuple[int, list[str] | str]:
    """Read on after a line that opens a quoted field.

    Args:
        first: Line that opens the field.
        waiting: Lines that were read ahead. Lines that are taken from ``source`` are appended.
        source: Lines after those.
        form: Form of the lines.
        size: Number of fields of a record.

    Returns:
        The number of lines after ``first`` that the record includes, and its fields. Where the field is not closed within
        ``MAX_RECORD_CHARS``, or text follows the quote that closes it, the number is 0, because the lines after it are most
        likely records of their own. Where the record ends but has a wrong number of fields, nobody can tell: the number
        then includes all its lines.
    """
    assert first.text is not None
    texts, chars, closed = [first.text], len(first.text), 0
    while chars <= MAX_RECORD_CHARS and closed <= size:
        taken = len(texts)
        if taken > len(waiting) and (line := next(source, None)) is not None:
            waiting.append(line)
        if taken > len(waiting) or (text := waiting[taken - 1].text) is None:
            break
        texts.append(text)
        chars += 1 + len(text)
        if form.closing_quote(text, 0) >= 0:
            closed += 1
            fields = form.sized(form.split("\n".join(texts)), size)
            if fields == TEXT_AFTER_QUOTE:
                break
            if fields != NOT_CLOSED:
                return taken, fields
    return 0, NOT_CLOSED
