"""Which values were seen, in bounded memory: the first million in a set, all others in a file.

In: values one by one. Out: whether each is new, and all of them once, in the order in which they came.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

_IN_MEMORY = 1_000_000


class Distinct:
    """Values that were seen. Use it in a ``with`` statement, which removes the file.

    Args:
        in_memory: Number of values that are held in memory, at least 0.
    """

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self._seen: dict[str, None] = {}
        self._in_memory = in_memory
        self._folder = tempfile.TemporaryDirectory(prefix="qarm-import-")
        self._table: sqlite3.Connection | None = None

    def add(self, value: str) -> bool:
        """Notes a value. Returns whether it is new.

        Args:
            value: The value.
        """
        if value in self._seen:
            return False
        if len(self._seen) < self._in_memory:
            self._seen[value] = None
            return True
        if self._table is None:
            self._table = sqlite3.connect(Path(self._folder.name) / "seen.db", isolation_level=None)
            self._table.execute("PRAGMA journal_mode=OFF")
            self._table.execute("PRAGMA synchronous=OFF")
            self._table.execute("CREATE TABLE seen (value TEXT PRIMARY KEY)")
            self._table.execute("BEGIN")
        return self._table.execute("INSERT OR IGNORE INTO seen VALUES (?)", (value,)).rowcount == 1

    def __iter__(self) -> Iterator[str]:
        yield from self._seen
        if self._table is not None:
            for (value,) in self._table.execute("SELECT value FROM seen ORDER BY rowid"):
                yield value

    def __enter__(self) -> Distinct:
        return self

    def __exit__(self, *_: object) -> None:
        if self._table is not None:
            self._table.close()
        self._folder.cleanup()
