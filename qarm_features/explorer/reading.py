"""Reads an explorer's SQLite file, one connection for each thread.

In: the folder of a version of ``explorers``. Out: items, prefixes and documents, as ``contract`` has them. The file never
changes, so no lock is taken.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qarm_features.explorer import lines
from qarm_features.explorer.contract import ItemLine, Near, TreeNode
from qarm_features.explorer.schema import FILE
from qarm_features.storage.artifacts import open_version

_TOGETHER = 1000  # IDs of one query


class ExplorerError(ValueError):
    """The explorer does not have what was asked for. The message is one sentence that people can be shown."""


class ExplorerFile:
    """The file of one version.

    Args:
        folder: Folder of the version.

    Attributes:
        file: Path of the file.
        made_at: Time at which the data was made, in ISO 8601.

    Raises:
        ExplorerError: The folder holds no explorer.
    """

    def __init__(self, folder: str | Path) -> None:
        self.file = Path(folder) / FILE
        version = open_version(folder)
        if version is None or not self.file.is_file():
            raise ExplorerError(f"{folder} holds no explorer. Run: qarm build-explorer")
        self.made_at = str(version.manifest.get("made_at", ""))
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            while self._opened:
                self._opened.pop().close()
            self._own = threading.local()

    def nodes(self, prefixes: Sequence[str]) -> list[TreeNode]:
        """Return prefixes in the given order.

        Raises:
            ExplorerError: No item of the catalog has one of them.
        """
        columns = "prefix, level, items, children, positives, words, typical"
        query = f"SELECT {columns} FROM nodes WHERE prefix IN ({_marks(prefixes)})"
        row_of = {row[0]: row for row in self.all(query, *prefixes)}
        for prefix in prefixes:
            if prefix not in row_of:
                raise ExplorerError(f"Prefix {prefix} does not exist in this release.")
        typical = {prefix: json.loads(row_of[prefix][6]) for prefix in prefixes}
        line_of = self.lines_of({item_id for ids in typical.values() for item_id in ids})
        return [
            {
                "prefix": prefix,
                "level": level,
                "items": items,
                "children": children,
                "positives": positives,
                "words": json.loads(words),
                "typical": [line_of[one] for one in typical[prefix]] or self.first_of(prefix, 4 if items <= 4 else 0),
            }
            for prefix, level, items, children, positives, words, _ in map(row_of.__getitem__, prefixes)
        ]

    def place(self, prefix: str) -> tuple[int, int]:
        """Return the number of the first item of a prefix, and how many of its items the explorer has.

        Raises:
            ExplorerError: No item of the catalog has the prefix.
        """
        rows = self.all("SELECT first, shown FROM places WHERE prefix = ?", prefix)
        if rows:
            return rows[0]
        self.nodes([prefix])  # raises if no item of the catalog has it
        return 1, 0

    def first_of(self, prefix: str, limit: int) -> list[ItemLine]:
        """Return at most ``limit`` items of a prefix, the first ones in the order of codes."""
        if not limit:
            return []
        first, shown = self.place(prefix)
        return self.numbered(first, min(limit, shown))

    def numbered(self, first: int, count: int) -> list[ItemLine]:
        """Return ``count`` items from the number ``first`` on; none if ``count`` is below 1."""
        if count <= 0:
            return []
        return self.lines("number BETWEEN ? AND ? ORDER BY number", first, first + count - 1)

    def lines_of(self, item_ids: Iterable[str]) -> dict[str, ItemLine]:
        """Return items by ID. Those that are not in the explorer have no title and no codes."""
        ids = list(dict.fromkeys(item_ids))
        found: dict[str, ItemLine] = {}
        for start in range(0, len(ids), _TOGETHER):
            some = ids[start : start + _TOGETHER]
            found.update((line["item_id"], line) for line in self.lines(f"item_id IN ({_marks(some)})", *some))
        return {item_id: found.get(item_id) or lines.unknown(item_id) for item_id in ids}

    def lines(self, where: str, *values: Any) -> list[ItemLine]:
        """Return the items that meet a condition in SQL with a mark for each value."""
        return [lines.line(row) for row in self.all(f"SELECT {lines.COLUMNS} FROM items WHERE {where}", *values)]

    def beside(self, number: int, prefixes: Sequence[str], most: int) -> list[Near]:
        """Return the items next to one in the order of codes, those of the longest shared prefix first.

        Args:
            number: Number of the item.
            prefixes: Its prefixes, from level 1 to L.
            most: Highest number of items.
        """
        found: list[Near] = []
        taken_from, taken_to = number, number  # the numbers up to here are done
        for level in range(len(prefixes), 0, -1):
            first, shown = self.place(prefixes[level - 1])
            room = most - len(found)
            after = self.numbered(taken_to + 1, min(room, first + shown - 1 - taken_to))
            before = self.numbered(max(first, taken_from - room), taken_from - max(first, taken_from - room))
            turns = [line for pair in lines.by_turns(after, before[::-1]) for line in pair]
            found += [{"item": line, "value": float(level)} for line in turns[:room]]
            taken_from, taken_to = first, first + shown - 1
            if len(found) == most:
                break
        return found

    def document(self, name: str) -> Any:
        """Return a value that is read as a whole."""
        rows = self.all("SELECT content FROM documents WHERE name = ?", name)
        return json.loads(rows[0][0])

    def all(self, query: str, *values: Any) -> list[Any]:
        """Return all rows of a query with a mark for each value."""
        # A lone surrogate, which no ID or title has, would be an error of sqlite3.
        known = [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]
        return self._connection().execute(query, known).fetchall()

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of this thread."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            if not self.file.is_file():
                raise ExplorerError(
                    f"{self.file.parent.name} of explorers was deleted, newer ones are there. Start again: qarm explore"
                )
            place = f"{self.file.resolve().as_uri()}?mode=ro&immutable=1"
            connection = sqlite3.connect(place, uri=True, check_same_thread=False)
            with self._lock:
                self._opened.append(connection)
            self._own.connection = connection
        return connection


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
