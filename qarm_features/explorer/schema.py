"""The tables of an explorer's SQLite file, and the rows that they are filled with.

In: nothing. Out: SQL, and named tuples that ``StoreWriter`` takes. ``items.number`` counts the items in the order of their
codes, from 1. So the items of a prefix are a range of numbers, which ``places`` holds, and any part of it is read at once::

    number  item_id  codes      prefix  first  shown
    1       71       3.0        3       1      2
    2       50       3.8        3.0     1      1
    3       64       7.8        3.8     2      1
                                7       3      1
                                7.8     3      1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

FILE = "explorer.sqlite"

TABLES = """
CREATE TABLE documents(name TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items(
    number INTEGER PRIMARY KEY, item_id TEXT NOT NULL, title TEXT NOT NULL, codes TEXT NOT NULL,
    positives INTEGER NOT NULL, picture INTEGER NOT NULL
);
CREATE TABLE details(
    number INTEGER PRIMARY KEY, text TEXT NOT NULL, by_embedding TEXT NOT NULL, by_co_click TEXT NOT NULL,
    history TEXT NOT NULL
);
CREATE TABLE pictures(number INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE places(prefix TEXT PRIMARY KEY, first INTEGER NOT NULL, shown INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE nodes(
    prefix TEXT PRIMARY KEY, parent TEXT, level INTEGER NOT NULL, items INTEGER NOT NULL, children INTEGER NOT NULL,
    positives INTEGER NOT NULL, words TEXT NOT NULL, typical TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE collisions(
    rank INTEGER PRIMARY KEY, prefix TEXT NOT NULL, items INTEGER NOT NULL, equal_contents INTEGER NOT NULL
);
CREATE TABLE users(user_id TEXT PRIMARY KEY, behavior TEXT NOT NULL, candidates TEXT NOT NULL) WITHOUT ROWID;
"""

# Titles are numbered by popularity, so that the first ones that a search finds are the most popular ones.
AFTER_ROWS = """
CREATE UNIQUE INDEX item_by_id ON items(item_id);
CREATE INDEX nodes_by_size ON nodes(parent, items DESC, prefix);
CREATE TABLE popular(rank INTEGER PRIMARY KEY, number INTEGER NOT NULL);
INSERT INTO popular(number) SELECT number FROM items ORDER BY positives DESC, number;
CREATE VIRTUAL TABLE titles USING fts5(
    title, content='', tokenize='unicode61 remove_diacritics 2', prefix='1 2 3'
);
INSERT INTO titles(rowid, title) SELECT rank, title FROM popular JOIN items USING(number) ORDER BY rank;
INSERT INTO titles(titles) VALUES('optimize');
ANALYZE;
"""


class NearIds(NamedTuple):
    """The items near an item.

    Attributes:
        item_ids: Their IDs, the nearest first.
        values: Their cosines, or numbers of co-clicks, as many.
    """

    item_ids: Sequence[str] = ()
    values: Sequence[float] = ()


class ItemRow(NamedTuple):
    """An item.

    Attributes:
        item_id: Its ID.
        title: Its title.
        text: Its text.
        rq_codes: Its L codes.
        positives: Number of its positives.
        picture: A small picture as JPEG; None where there is none.
        by_embedding: Items with the highest cosine.
        by_co_click: Items that users liked before or after it.
        history: Its prefix of L levels in each release, in the order of the document ``releases``; None where it has none.
    """

    item_id: str
    title: str
    text: str
    rq_codes: Sequence[int]
    positives: int
    picture: bytes | None = None
    by_embedding: NearIds = NearIds()
    by_co_click: NearIds = NearIds()
    history: Sequence[str | None] = ()


class NodeRow(NamedTuple):
    """A prefix of the whole catalog.

    Attributes:
        rq_codes: Its codes, none for the whole catalog.
        items: Number of its items.
        children: Number of prefixes directly below it.
        positives: Number of positives of its items.
        words: At most 5 distinguishing words.
        typical: IDs of at most 4 typical items.
    """

    rq_codes: Sequence[int]
    items: int
    children: int
    positives: int
    words: Sequence[str] = ()
    typical: Sequence[str] = ()


class CollisionRow(NamedTuple):
    """A semantic ID of several items.

    Attributes:
        rq_codes: The L codes.
        items: Number of its items.
        equal_contents: Number of them whose content another one has as well.
    """

    rq_codes: Sequence[int]
    items: int
    equal_contents: int


class UserRow(NamedTuple):
    """A user.

    Attributes:
        user_id: ID of the user.
        behavior: Time in ISO 8601 and item ID of each of the latest positives, the latest first.
        candidates: Values of ``contract.Candidate`` with IDs in place of items.
    """

    user_id: str
    behavior: Sequence[tuple[str, str]]
    candidates: Sequence[dict[str, Any]]


def prefix_of(codes: Sequence[int]) -> str:
    """Return codes as a prefix.

    Example:
        >>> prefix_of([12, 3])
        '12.3'
    """
    return ".".join(map(str, codes))


def codes_of(prefix: str) -> list[int]:
    """Return the codes of a prefix.

    Example:
        >>> codes_of("12.3"), codes_of("")
        ([12, 3], [])
    """
    return [int(code) for code in prefix.split(".")] if prefix else []
