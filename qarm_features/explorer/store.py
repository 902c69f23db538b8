"""The explorer's data, read from one SQLite file without Spark, torch or a feature store.

In: the folder of a version of ``explorers``. Out: the answers of ``contract``, one method for each path. Any number of
threads may use one ``Explorer``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

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
    UserList,
    UserPage,
)
from qarm_features.explorer.reading import ExplorerError, ExplorerFile
from qarm_features.explorer.schema import codes_of
from qarm_features.explorer.searching import found
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.objects import AnyPath

__all__ = ["Explorer", "ExplorerError"]

_NEAR, _MOST = 10, 1000


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
        self._read = ExplorerFile(folder)

    @classmethod
    def latest(cls, artifacts: str | AnyPath) -> Explorer:
        """Open the newest version.

        Args:
            artifacts: Folder of all artifacts of a project, or its URI in an object store.

        Raises:
            ExplorerError: There is no version.
        """
        newest = Artifacts(artifacts, "explorers").latest()
        if newest is None:
            raise ExplorerError(f"{artifacts} holds no explorer. Run: qarm build-explorer")
        return cls(newest.path)

    def close(self) -> None:
        """Close the connections of all threads."""
        self._read.close()

    def summary(self) -> Summary:
        """Return what is explored."""
        return cast(Summary, {**self._read.document("summary"), "made_at": self._read.made_at})

    def tree(self, prefix: str = "", limit: int = 100) -> Tree:
        """Return a prefix and the largest prefixes directly below it.

        Args:
            prefix: Prefix, "" for the whole catalog.
            limit: Highest number of prefixes below it, from 0 to 1000.

        Raises:
            ExplorerError: No item of the catalog has the prefix, or the limit is out of range.
        """
        _in_range("limit", limit, 0, _MOST)
        (node,) = self._read.nodes([prefix])
        rows = self._read.all(
            "SELECT prefix FROM nodes WHERE parent = ? ORDER BY items DESC, prefix LIMIT ?", prefix, limit
        )
        children = self._read.nodes([row[0] for row in rows])
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
        first, shown = self._read.place(prefix)
        return {"items": self._read.numbered(first + offset, min(limit, max(shown - offset, 0))), "total": shown}

    def search(self, q: str) -> Found:
        """Find items by ID or by the first letters of words of their titles, users by ID, and a prefix.

        Args:
            q: What somebody typed, at most 200 characters of which are read.
        """
        return found(self._read, q)

    def item(self, item_id: str) -> ItemPage:
        """Return all about one item.

        Raises:
            ExplorerError: The explorer does not have the item.
        """
        number, item = self._require_item(item_id)
        (row,) = self._read.all("SELECT text, by_embedding, by_co_click, history FROM details WHERE number = ?", number)
        codes = item["rq_codes"]
        path = self._read.nodes([".".join(map(str, codes[:level])) for level in range(1, len(codes) + 1)])
        return {
            "item": item,
            "text": row[0],
            "path": path,
            "by_prefix": self._read.beside(number, [node["prefix"] for node in path], _NEAR),
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
        rows = self._read.all("SELECT content FROM pictures WHERE number = ?", number)
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
        rows = self._read.all(wanted, limit, offset)
        ((total,),) = self._read.all("SELECT count(*) FROM users")
        return {"users": [{"user_id": user_id, "positives": positives} for user_id, positives in rows], "total": total}

    def user(self, user_id: str) -> UserPage:
        """Return what a user liked, and candidates.

        Raises:
            ExplorerError: The user has no page.
        """
        rows = self._read.all("SELECT behavior, candidates FROM users WHERE user_id = ?", user_id)
        if not rows:
            raise ExplorerError(f"User {user_id} has no page: the explorer holds a sample of the users with behavior.")
        behavior, candidates = (json.loads(part) for part in rows[0])
        ids = {item_id for _, item_id in behavior}
        ids.update(one for candidate in candidates for one in (candidate["item"], *candidate["matched"]))
        line_of = self._read.lines_of(ids)
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
            "model": self._read.document("model"),
        }

    def map(self) -> MapPoints:
        """Return the map of items."""
        return cast(MapPoints, self._read.document("map"))

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
                "examples": self._read.first_of(prefix, 5),
            }
            for prefix, items, equal_contents in self._read.all(wanted, offset, limit)
        ]

    def moves(self) -> Moves:
        """Return the comparison with the release before."""
        return cast(Moves, self._read.document("moves"))

    def figures(self) -> list[Figure]:
        """Return the figures of the release."""
        return cast(list[Figure], self._read.document("figures"))

    def lineage(self) -> list[LineageNode]:
        """Return what the release was made of."""
        return cast(list[LineageNode], self._read.document("lineage"))

    def _require_item(self, item_id: str) -> tuple[int, ItemLine]:
        rows = self._read.all(f"SELECT number, {lines.COLUMNS} FROM items WHERE item_id = ?", item_id)
        if not rows:
            raise ExplorerError(f"Item {item_id} is not in this explorer.")
        return rows[0][0], lines.line(rows[0][1:])

    def _near(self, item_ids: Sequence[str], values: Sequence[float]) -> list[Near]:
        line_of = self._read.lines_of(item_ids)
        return [{"item": line_of[item_id], "value": value} for item_id, value in zip(item_ids, values)]

    def _history(self, prefixes: Sequence[str | None]) -> list[PastId]:
        return [
            cast(PastId, {**release, "rq_codes": None if prefix is None else codes_of(prefix)})
            for release, prefix in zip(self._read.document("releases"), prefixes)
        ]


def _in_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ExplorerError(f"{name} is {value}, must be from {least} to {most}.")
