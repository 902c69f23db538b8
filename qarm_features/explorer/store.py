"""The explorer's data, read from one SQLite file without Spark, torch or a feature store.

In: the folder of a version of ``explorers``. Out: the answers of ``contract``, one method for each path. Any number of
threads may use one ``Explorer``.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from qarm_features.explorer import lines
from qarm_features.explorer.contract import (
    Candidate,
    Collision,
    Figure,
    Found,
    ItemLine,
    ItemList,
    ItemPage,
    LineageNode,
    MapPoints,
    Moves,
    Near,
    PastId,
    Summary,
    Tree,
    TreeNode,
    UserList,
    UserPage,
)
from qarm_features.explorer.schema import FILE, codes_of
from qarm_features.explorer.searching import fts_query, ranked
from qarm_features.storage.artifacts import Artifacts, open_version

_NEAR, _MOST = 10, 1000
_PREFIX = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*")


class ExplorerError(ValueError):
    """The explorer does not have what was asked for. The message is one sentence that people can be shown."""


class Explorer:
    """Answers questions about a release.

    Args:
        folder: Folder of a version of ``explorers``, which the job ``build-explorer`` wrote.

    Raises:
        ExplorerError: The folder holds no explorer.

    Example::

        explorer = Explorer.latest("my_project/artifacts")
        explorer.item("50")["by_embedding"]
    """

    def __init__(self, folder: str | Path) -> None:
        self._file = Path(folder) / FILE
        version = open_version(folder)
        if version is None or not self._file.is_file():
            raise ExplorerError(f"{folder} holds no explorer. Run: qarm build-explorer")
        self._made_at = str(version.manifest.get("made_at", ""))
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    @classmethod
    def latest(cls, artifacts: str | Path) -> Explorer:
        """Open the newest version.

        Args:
            artifacts: Folder of all artifacts of a project.

        Raises:
            ExplorerError: There is no version.
        """
        newest = Artifacts(artifacts, "explorers").latest()
        if newest is None:
            raise ExplorerError(f"{artifacts} holds no explorer. Run: qarm build-explorer")
        return cls(newest.path)

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            while self._opened:
                self._opened.pop().close()
            self._own = threading.local()

    def summary(self) -> Summary:
        """Return what is explored."""
        return cast(Summary, {**self._document("summary"), "made_at": self._made_at})

    def tree(self, prefix: str = "", limit: int = 100) -> Tree:
        """Return a prefix and the largest prefixes directly below it.

        Args:
            prefix: Prefix, "" for the whole catalog.
            limit: Highest number of prefixes below it, from 0 to 1000.

        Raises:
            ExplorerError: No item of the catalog has the prefix, or the limit is out of range.
        """
        _in_range("limit", limit, 0, _MOST)
        (node,) = self._nodes([prefix])
        rows = self._all("SELECT prefix FROM nodes WHERE parent = ? ORDER BY items DESC, prefix LIMIT ?", prefix, limit)
        children = self._nodes([row[0] for row in rows])
        below = node["items"] if node["children"] else 0
        return {
            "node": node,
            "children": children,
            "left_out": node["children"] - len(children),
            "left_out_items": below - sum(child["items"] for child in children),
        }

    def items(self, prefix: str = "", offset: int = 0, limit: int = 50) -> ItemList:
        """Return a part of the items of a prefix, in the order of their codes, the most popular of a semantic ID first.

        Args:
            prefix: Prefix, "" for the whole catalog.
            offset: Number of items before the first one that is returned, at least 0.
            limit: Highest number of items, from 0 to 1000.

        Raises:
            ExplorerError: No item of the catalog has the prefix, or a number is out of range.
        """
        _in_range("offset", offset, 0, 2**53)
        _in_range("limit", limit, 0, _MOST)
        first, shown = self._place(prefix)
        return {"items": self._range(first + offset, min(limit, max(shown - offset, 0))), "total": shown}

    def search(self, q: str) -> Found:
        """Find items by ID or by the first letters of words of their titles, users by ID, and a prefix.

        Args:
            q: What somebody typed, at most 200 characters of which are read.
        """
        q = q.strip()[:200]
        if not q:
            return {"items": [], "users": [], "prefixes": []}
        after = q + chr(0x10FFFF)
        by_id = self._lines("item_id >= ? AND item_id < ? ORDER BY item_id LIMIT 20", q, after)
        users = self._all("SELECT user_id FROM users WHERE user_id >= ? AND user_id < ? LIMIT 5", q, after)
        query, by_title = fts_query(q), []
        if query:
            # Titles are numbered by popularity, so the first ones are the most popular ones.
            first = "SELECT rowid FROM titles WHERE titles MATCH ? ORDER BY rowid LIMIT 200"
            by_title = ranked(q, self._lines(f"number IN (SELECT number FROM popular WHERE rank IN ({first}))", query))
        exact = [line for line in by_id if line["item_id"] == q]
        items = {line["item_id"]: line for line in [*exact, *by_title, *by_id]}
        known = _PREFIX.fullmatch(q) and self._all("SELECT prefix FROM nodes WHERE prefix = ?", q)
        return {
            "items": list(items.values())[:20],
            "users": [row[0] for row in users],
            "prefixes": self._nodes([q]) if known else [],
        }

    def item(self, item_id: str) -> ItemPage:
        """Return all about one item.

        Raises:
            ExplorerError: The explorer does not have the item.
        """
        number, item = self._require_item(item_id)
        (row,) = self._all("SELECT text, by_embedding, by_co_click, history FROM details WHERE number = ?", number)
        codes = item["rq_codes"]
        path = self._nodes([".".join(map(str, codes[:level])) for level in range(1, len(codes) + 1)])
        return {
            "item": item,
            "text": row[0],
            "path": path,
            "by_prefix": self._by_prefix(number, [node["prefix"] for node in path]),
            "by_embedding": self._near(*json.loads(row[1])),
            "by_co_click": self._near(*json.loads(row[2])),
            "history": self._history(json.loads(row[3])),
            "collisions": path[-1]["items"] - 1,
        }

    def picture(self, item_id: str) -> bytes | None:
        """Return the small picture of an item as JPEG, or None if it has none.

        Raises:
            ExplorerError: The explorer does not have the item.
        """
        number, _ = self._require_item(item_id)
        rows = self._all("SELECT content FROM pictures WHERE number = ?", number)
        return bytes(rows[0][0]) if rows else None

    def users(self, offset: int = 0, limit: int = 50) -> UserList:
        """Return a part of the users that have a page, in the order of their IDs.

        Args:
            offset: Number of users before the first one that is returned, at least 0.
            limit: Highest number of users, from 0 to 1000.

        Raises:
            ExplorerError: A number is out of range.
        """
        _in_range("offset", offset, 0, 2**53)
        _in_range("limit", limit, 0, _MOST)
        wanted = "SELECT user_id, json_array_length(behavior) FROM users ORDER BY user_id LIMIT ? OFFSET ?"
        rows = self._all(wanted, limit, offset)
        ((total,),) = self._all("SELECT count(*) FROM users")
        return {"users": [{"user_id": user_id, "positives": positives} for user_id, positives in rows], "total": total}

    def user(self, user_id: str) -> UserPage:
        """Return what a user liked, and candidates.

        Raises:
            ExplorerError: The user has no page.
        """
        rows = self._all("SELECT behavior, candidates FROM users WHERE user_id = ?", user_id)
        if not rows:
            raise ExplorerError(f"User {user_id} has no page: the explorer holds a sample of the users with behavior.")
        behavior, candidates = (json.loads(part) for part in rows[0])
        ids = {item_id for _, item_id in behavior}
        ids.update(one for candidate in candidates for one in (candidate["item"], *candidate["matched"]))
        line_of = self._lines_of(ids)
        return {
            "user_id": user_id,
            "behavior": [(moment, line_of[item_id]) for moment, item_id in behavior],
            "candidates": [
                cast(
                    Candidate,
                    {
                        **candidate,
                        "item": line_of[candidate["item"]],
                        "matched": [line_of[one] for one in candidate["matched"]],
                    },
                )
                for candidate in candidates
            ],
            "model": self._document("model"),
        }

    def map(self) -> MapPoints:
        """Return the map of items."""
        return cast(MapPoints, self._document("map"))

    def collisions(self, offset: int = 0, limit: int = 50) -> list[Collision]:
        """Return semantic IDs that several items share, those of most items first.

        Args:
            offset: Number of semantic IDs before the first one that is returned, at least 0.
            limit: Highest number of semantic IDs, from 0 to 1000.

        Raises:
            ExplorerError: A number is out of range.
        """
        _in_range("offset", offset, 0, 2**53)
        _in_range("limit", limit, 0, _MOST)
        wanted = "SELECT prefix, items, equal_contents FROM collisions WHERE rank >= ? ORDER BY rank LIMIT ?"
        return [
            {
                "rq_codes": codes_of(prefix),
                "items": items,
                "equal_contents": equal_contents,
                "examples": self._first_of(prefix, 5),
            }
            for prefix, items, equal_contents in self._all(wanted, offset, limit)
        ]

    def moves(self) -> Moves:
        """Return the comparison with the release before."""
        return cast(Moves, self._document("moves"))

    def figures(self) -> list[Figure]:
        """Return the figures of the release."""
        return cast(list[Figure], self._document("figures"))

    def lineage(self) -> list[LineageNode]:
        """Return what the release was made of."""
        return cast(list[LineageNode], self._document("lineage"))

    def _require_item(self, item_id: str) -> tuple[int, ItemLine]:
        rows = self._all(f"SELECT number, {lines.COLUMNS} FROM items WHERE item_id = ?", item_id)
        if not rows:
            raise ExplorerError(f"Item {item_id} is not in this explorer.")
        return rows[0][0], lines.line(rows[0][1:])

    def _by_prefix(self, number: int, prefixes: list[str]) -> list[Near]:
        """Return the items next to one in the order of codes, those of the longest shared prefix first."""
        found: list[Near] = []
        taken_from, taken_to = number, number  # the numbers up to here are done
        for level in range(len(prefixes), 0, -1):
            first, shown = self._place(prefixes[level - 1])
            room = _NEAR - len(found)
            after = self._range(taken_to + 1, min(room, first + shown - 1 - taken_to))
            before = self._range(max(first, taken_from - room), taken_from - max(first, taken_from - room))
            turns = [line for pair in lines.by_turns(after, before[::-1]) for line in pair]
            found += [{"item": line, "value": float(level)} for line in turns[:room]]
            taken_from, taken_to = first, first + shown - 1
            if len(found) == _NEAR:
                break
        return found

    def _near(self, item_ids: Sequence[str], values: Sequence[float]) -> list[Near]:
        line_of = self._lines_of(item_ids)
        return [{"item": line_of[item_id], "value": value} for item_id, value in zip(item_ids, values)]

    def _history(self, prefixes: Sequence[str | None]) -> list[PastId]:
        return [
            cast(PastId, {**release, "rq_codes": None if prefix is None else codes_of(prefix)})
            for release, prefix in zip(self._document("releases"), prefixes)
        ]

    def _nodes(self, prefixes: Sequence[str]) -> list[TreeNode]:
        """Return prefixes in the given order."""
        columns = "prefix, level, items, children, positives, words, typical"
        query = f"SELECT {columns} FROM nodes WHERE prefix IN ({_marks(prefixes)})"
        row_of = {row[0]: row for row in self._all(query, *prefixes)}
        for prefix in prefixes:
            if prefix not in row_of:
                raise ExplorerError(f"Prefix {prefix} does not exist in this release.")
        typical = {prefix: json.loads(row_of[prefix][6]) for prefix in prefixes}
        line_of = self._lines_of({item_id for ids in typical.values() for item_id in ids})
        return [
            {
                "prefix": prefix,
                "level": level,
                "items": items,
                "children": children,
                "positives": positives,
                "words": json.loads(words),
                "typical": [line_of[one] for one in typical[prefix]] or self._first_of(prefix, 4 if items <= 4 else 0),
            }
            for prefix, level, items, children, positives, words, _ in map(row_of.__getitem__, prefixes)
        ]

    def _place(self, prefix: str) -> tuple[int, int]:
        """Return the number of the first item of a prefix, and the number of its items that the explorer has."""
        rows = self._all("SELECT first, shown FROM places WHERE prefix = ?", prefix)
        if rows:
            return rows[0]
        self._nodes([prefix])  # raises if no item of the catalog has it
        return 1, 0

    def _first_of(self, prefix: str, limit: int) -> list[ItemLine]:
        if not limit:
            return []
        first, shown = self._place(prefix)
        return self._range(first, min(limit, shown))

    def _range(self, first: int, count: int) -> list[ItemLine]:
        if count <= 0:
            return []
        return self._lines("number BETWEEN ? AND ? ORDER BY number", first, first + count - 1)

    def _lines_of(self, item_ids: Iterable[str]) -> dict[str, ItemLine]:
        """Return items by ID. Those that are not in the explorer have no title and no codes."""
        ids = list(dict.fromkeys(item_ids))
        found: dict[str, ItemLine] = {}
        for start in range(0, len(ids), _MOST):
            some = ids[start : start + _MOST]
            found.update((line["item_id"], line) for line in self._lines(f"item_id IN ({_marks(some)})", *some))
        return {item_id: found.get(item_id) or lines.unknown(item_id) for item_id in ids}

    def _lines(self, where: str, *values: Any) -> list[ItemLine]:
        return [lines.line(row) for row in self._all(f"SELECT {lines.COLUMNS} FROM items WHERE {where}", *values)]

    def _document(self, name: str) -> Any:
        rows = self._all("SELECT content FROM documents WHERE name = ?", name)
        return json.loads(rows[0][0])

    def _all(self, query: str, *values: Any) -> list[Any]:
        # A lone surrogate, which no ID or title has, would be an error of sqlite3.
        known = [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]
        return self._connection().execute(query, known).fetchall()

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of this thread."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            place = f"{self._file.resolve().as_uri()}?mode=ro&immutable=1"
            connection = sqlite3.connect(place, uri=True, check_same_thread=False)
            with self._lock:
                self._opened.append(connection)
            self._own.connection = connection
        return connection


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _in_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ExplorerError(f"{name} is {value}, must be from {least} to {most}.")
