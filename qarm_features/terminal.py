r"""The only way by which text of others reaches a terminal or a log: titles, IDs, reasons, file names, messages of errors.

In: any text. Out: the same text without power over the terminal. Control characters, characters that turn the direction of
reading and line breaks are shown as escapes, and square brackets are no markup. ::

    sku[/red]7        sku[/red]7
    a<ESC>[2Jb        a\x1b[2Jb
    one<LF>two        one\ntwo      where one line is due
"""

from __future__ import annotations

import logging
import unicodedata
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_WIDE = 1_000  # characters of a line in a pipe or a file
_JOINERS = "\u200c\u200d"  # they join letters of Persian and Hindi, and emoji
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats, half pairs, separators of lines and paragraphs


def one_line(text: object) -> str:
    r"""Return a text as one line that holds nothing but what can be seen.

    Example:
        >>> print(one_line("a\x1b[2Jb\nc\u202e"))
        a\x1b[2Jb\nc\u202e
    """
    return "".join(map(_seen, str(text)))


def lines_of(text: object) -> str:
    r"""Return a text of several lines, each of which holds nothing but what can be seen.

    Example:
        >>> lines_of("one\r\ntwo\x07")
        'one\ntwo\\x07'
    """
    return "\n".join(map(one_line, str(text).replace("\r\n", "\n").split("\n")))


def literal(text: object, style: str = "") -> Text:
    """Return a text for a console or a table, in which nothing is markup.

    Args:
        text: Text or value.
        style: Style of the whole text, for example ``bold``.
    """
    from rich.text import Text

    return Text(one_line(text), style)


def wide_console(console: Console) -> Console:
    """Return a console for tables: the given one on a terminal; elsewhere one that cuts nothing, as rich does at 80."""
    return console if console.is_terminal else plain_console(width=_WIDE)


def plain_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console that takes no text for markup, an emoji or something to color."""
    from rich.console import Console

    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


class OneLine(logging.Formatter):
    """A format of logs in which a message is one line, whatever it holds. A traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Return a traceback."""
        return lines_of(super().formatException(ei))


def _seen(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
