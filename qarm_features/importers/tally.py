"""The count of rows: those that were read are those that were written and those that were left out.

In: rows as they are read. Out: counts by reason, with examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

_KEPT_EXAMPLES = 1000  # of each reason; the counts hold for all rows
_LONGEST_EXAMPLE = 200
_SECONDS = 10.0


class LeftOut(NamedTuple):
    """A row that was left out.

    Attributes:
        reason: Why.
        file: Name of its file.
        line: Number of its line, from 1.
        text: The beginning of what stands there.
    """

    reason: str
    file: str
    line: int
    text: str


class Tally:
    """Counts the rows of one table, keeps examples of those that are left out, and says how far it is.

    Args:
        table: Name of the table.
        say: Function that prints a line of progress; None prints nothing.
        most_lines: Number of lines of each file that are read, at least 1; None reads all.
    """

    def __init__(self, table: str, say: Callable[[str], None] | None = None, *, most_lines: int | None = None) -> None:
        self.table, self.most_lines = table, most_lines
        self.read = 0
        self.written = 0
        self.left_out: Counter[str] = Counter()
        self.examples: dict[str, list[LeftOut]] = {}
        self._say = say
        self._next = monotonic() + _SECONDS

    def aside(self) -> Tally:
        """Returns a tally for a pass over the same files whose lines are counted elsewhere."""
        return Tally(self.table, most_lines=self.most_lines)

    def leave_out(self, reason: str, file: str, line: int, text: str, *, rows: int = 1) -> None:
        """Counts rows that were read and cannot be written.

        Args:
            reason: Why.
            file: Name of the file.
            line: Number of the line, from 1.
            text: What stands there.
            rows: Number of rows, at least 1.
        """
        self.left_out[reason] += rows
        kept = self.examples.setdefault(reason, [])
        if len(kept) < _KEPT_EXAMPLES:
            kept.append(LeftOut(reason, file, line, text[:_LONGEST_EXAMPLE]))

    def progress(self, file: str, share: float) -> None:
        """Says how far the table is, at most every ten seconds.

        Args:
            file: Name of the file that is read.
            share: Share of the file that was read, from 0 to 1.
        """
        if self._say is not None and monotonic() >= self._next:
            self._next = monotonic() + _SECONDS
            self._say(f"{self.table}: {self.read:,} rows read, {share:.0%} of {file}")

    def require_all(self) -> None:
        """Raises an error if a row is neither written nor left out.

        Raises:
            RuntimeError: The counts do not add up, which is an error in this program.
        """
        if self.read != self.written + self.left_out.total():
            raise RuntimeError(
                f"{self.table}: {self.read:,} rows were read, {self.written:,} written and {self.left_out.total():,} left "
                "out, which do not add up. This is an error in the importer: please report it."
            )
