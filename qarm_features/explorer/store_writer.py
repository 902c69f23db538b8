"""Writes an explorer's SQLite file from streams of rows, so that memory does not grow with the catalog.

In: rows of ``schema``, items in the order of their codes. Out: one file, which is never changed afterwards.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from qarm_features.explorer.schema import (
    AFTER_ROWS,
    TABLES,
    CollisionRow,
    ItemRow,
    NearIds,
    NodeRow,
    UserRow,
    prefix_of,
)

_BATCH = 10_000
# The file is a draft until it is whole, so a journal would protect nothing.
_PRAGMAS = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536; PRAGMA temp_store=FILE;"


class StoreWriter:
    """Writes one file.

    Args:
        path: Path of the new file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(_PRAGMAS + TABLES)
        self._number = 0

    def add_items(self, rows: Iterable[ItemRow]) -> int:
        """Write all items, in one call, and return their number.

        Args:
            rows: Items in the order of their codes.

        Raises:
            ValueError: The rows are in another order, so that the items of a prefix are not together.
        """
        for batch in _batches(self._placed(rows)):
            numbered = list(batch)
            items = [
                (number, row.item_id, row.title, prefix_of(row.rq_codes), row.positives, row.picture is not None)
                for number, row in numbered
            ]
            details = [
                (number, row.text, _near(row.by_embedding), _near(row.by_co_click), _json(list(row.history)))
                for number, row in numbered
            ]
            pictures = [(number, row.picture) for number, row in numbered if row.picture is not None]
            self._insert("items", items)
            self._insert("details", details)
            self._insert("pictures", pictures)
        return self._number

    def add_nodes(self, rows: Iterable[NodeRow]) -> None:
        """Write prefixes."""
        self._insert_all(
            "nodes",
            (
                (
                    prefix_of(row.rq_codes),
                    prefix_of(row.rq_codes[:-1]) if row.rq_codes else None,
                    len(row.rq_codes),
                    row.items,
                    row.children,
                    row.positives,
                    _json(list(row.words)),
                    _json(list(row.typical)),
                )
                for row in rows
            ),
        )

    def add_collisions(self, rows: Iterable[CollisionRow]) -> None:
        """Write the semantic IDs that items share, in one call, in the order in which they are shown."""
        numbered = enumerate(rows)
        self._insert_all("collisions", ((n, prefix_of(row.rq_codes), *row[1:]) for n, row in numbered))

    def add_users(self, rows: Iterable[UserRow]) -> None:
        """Write users."""
        self._insert_all("users", ((row.user_id, _json(row.behavior), _json(row.candidates)) for row in rows))

    def add_documents(self, documents: Mapping[str, Any]) -> None:
        """Write values that are read as a whole, by name."""
        self._insert_all("documents", ((name, _json(content)) for name, content in documents.items()))

    def finish(self) -> None:
        """Write the indexes and close the file."""
        with closing(self._connection):
            self._connection.executescript(AFTER_ROWS)

    def close(self) -> None:
        """Close a file that is not finished."""
        self._connection.close()

    def _placed(self, rows: Iterable[ItemRow]) -> Iterator[tuple[int, ItemRow]]:
        """Number the items and write the place of each prefix when its last item has passed."""
        open_codes: list[int] = []
        first: list[int] = []  # number of the first item of each prefix of open_codes, from level 1
        places: list[tuple[str, int, int]] = []
        start = self._number + 1
        for row in rows:
            codes = list(row.rq_codes)
            if codes < open_codes:
                raise ValueError(f"Item {row.item_id} has the codes {codes} after {open_codes}. Sort items by codes.")
            shared = 0
            while shared < len(open_codes) and codes[shared] == open_codes[shared]:
                shared += 1
            self._end(places, open_codes, first, shared)
            self._number += 1
            first += [self._number] * (len(codes) - shared)
            open_codes = codes
            if len(places) >= _BATCH:
                self._insert("places", places)
                places.clear()
            yield self._number, row
        self._end(places, open_codes, first, 0)
        self._insert("places", [*places, ("", start, self._number + 1 - start)])

    def _end(self, places: list[tuple[str, int, int]], codes: list[int], first: list[int], kept: int) -> None:
        """Note the places of the prefixes of ``codes`` that are longer than ``kept``, whose items end here."""
        for level in range(kept, len(codes)):
            places.append((prefix_of(codes[: level + 1]), first[level], self._number + 1 - first[level]))
        del first[kept:]

    def _insert_all(self, table: str, rows: Iterable[tuple]) -> None:
        for batch in _batches(rows):
            self._insert(table, batch)

    def _insert(self, table: str, rows: list[tuple]) -> None:
        if rows:
            places = ", ".join("?" * len(rows[0]))
            self._connection.execute("BEGIN")
            self._connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
            self._connection.execute("COMMIT")


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    rows = iter(rows)
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _near(near: NearIds) -> str:
    return _json([list(near.item_ids), list(near.values)])


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
