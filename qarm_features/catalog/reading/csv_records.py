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

from collections.abc import Iterable
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

    def split(self, text: str, *, strict: bool = False) -> list[str] | str:
        """Return the fields of a record, or the reason for which it cannot be read.

        Args:
            text: The record, without the line break at its end.
            strict: Whether to refuse quotes in fields that are not enclosed by quotes, as in 5" nail.

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
                field = text[start:] if end < 0 else text[start:end]
                if strict and quote in field:
                    return TEXT_AFTER_QUOTE
                fields.append(field)
                if end < 0:
                    return fields
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

    def is_record(self, text: str, size: int) -> bool:
        """Return True if a line by itself is a record of ``size`` fields in which quotes do nothing but enclose fields.

        The last line of a field over several lines never is: its closing quote does not begin a field.

        Example:
            >>> [CsvFormat(",", '"').is_record(line, 2) for line in ('1,"a, b"', 'of a text",2')]
            [True, False]
        """
        fields = self.split(text, strict=True)
        return isinstance(fields, list) and len(fields) == size

    def sized(self, fields: list[str] | str, size: int) -> list[str] | str:
        """Return the fields if their number is ``size``, else the reason for which the record cannot be read."""
        if isinstance(fields, str) or len(fields) == size:
            return fields
        return FEWER_FIELDS if len(fields) < size else MORE_FIELDS


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


class Continued(NamedTuple):
    """What follows a line that opens a quoted field.

    Attributes:
        lines: Number of further lines of the record.
        fields: Its fields, or the reason for which it cannot be read.
        ended: True if the lines ended before the field was closed or given up.
    """

    lines: int
    fields: list[str] | str
    ended: bool


def is_blank(text: str, *, also_tabs: bool = False) -> bool:
    """Return True for a line that holds no record: it is empty or has spaces alone. In CSV, tabs may be delimiters."""
    return not text.strip(blanks(also_tabs=also_tabs))


def blanks(*, also_tabs: bool) -> str:
    """Return the characters of which a line without a record consists."""
    return " \r\t" if also_tabs else " \r"


def over_lines(first: str, following: Iterable[str | None], form: CsvFormat, size: int) -> Continued:
    r"""Read on after a line that opens a quoted field.

    Where the field is not closed within ``MAX_RECORD_CHARS``, or text follows the quote that closes it, the record has no
    further lines, because the lines after it are most likely records of their own. So it is where each of its further lines
    could be a record of its own. Otherwise the record includes all its lines, also where it has a wrong number of fields.

    Args:
        first: Line that opens the field.
        following: Lines after it, None where one is not valid in the encoding.
        form: Form of the lines.
        size: Number of fields of a record.

    Example:
        >>> over_lines('1,"a', ['b"', "2,c"], CsvFormat(",", '"'), 2)
        Continued(lines=1, fields=['1', 'a\nb'], ended=False)
        >>> over_lines('1,"a', ["2,b", "3,c"], CsvFormat(",", '"'), 2)
        Continued(lines=0, fields='a quoted field is not closed', ended=True)
    """
    texts, chars, closed = [first], len(first), 0
    for text in following:
        if text is None or chars > MAX_RECORD_CHARS or closed > size:
            return Continued(0, NOT_CLOSED, False)
        texts.append(text)
        chars += 1 + len(text)
        if form.closing_quote(text, 0) >= 0:
            closed += 1
            fields = form.sized(form.split("\n".join(texts)), size)
            if fields == TEXT_AFTER_QUOTE:
                return Continued(0, NOT_CLOSED, False)
            if fields != NOT_CLOSED:
                if all(form.is_record(text, size) for text in texts[1:] if not is_blank(text)):
                    return Continued(0, NOT_CLOSED, False)
                return Continued(len(texts) - 1, fields, False)
    return Continued(0, NOT_CLOSED, True)
