"""What somebody typed becomes a query of SQLite's full-text search, in which nothing has a meaning of its own.

In: a text of strangers. Out: what it finds: a query of quoted words gives titles, which are put in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from qarm_features.explorer.contract import Found, ItemLine
from qarm_features.explorer.reading import ExplorerFile

_PREFIX = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*")
_WORDS = re.compile(r"[^\W_]+")
_MOST_WORDS = 12


def found(file: ExplorerFile, q: str) -> Found:
    """Find items by ID or by the first letters of words of their titles, users by ID, and a prefix.

    Args:
        file: The file.
        q: What somebody typed, at most 200 characters of which are read.
    """
    q = q.strip()[:200]
    if not q:
        return {"items": [], "users": [], "prefixes": []}
    after = q + chr(0x10FFFF)
    by_id = file.lines("item_id >= ? AND item_id < ? ORDER BY item_id LIMIT 20", q, after)
    users = file.all("SELECT user_id FROM users WHERE user_id >= ? AND user_id < ? ORDER BY user_id LIMIT 5", q, after)
    query = fts_query(q)
    by_title: list[ItemLine] = []
    if query:
        # Titles are numbered by popularity, so the first ones are the most popular ones.
        first = "SELECT rowid FROM titles WHERE titles MATCH ? ORDER BY rowid LIMIT 200"
        by_title = ranked(q, file.lines(f"number IN (SELECT number FROM popular WHERE rank IN ({first}))", query))
    exact = [line for line in by_id if line["item_id"] == q]
    items = {line["item_id"]: line for line in [*exact, *by_title, *by_id]}
    known = _PREFIX.fullmatch(q) and file.all("SELECT prefix FROM nodes WHERE prefix = ?", q)
    return {
        "items": list(items.values())[:20],
        "users": [row[0] for row in users],
        "prefixes": file.nodes([q]) if known else [],
    }


def fts_query(q: str) -> str:
    """Return a query for titles with all words of ``q``, the last of which may be the beginning of a word.

    Args:
        q: What somebody typed.

    Returns:
        The query; "" if ``q`` has no letter and no digit.

    Example:
        >>> fts_query('toy "sto')
        '"toy" "sto"*'
    """
    words = _WORDS.findall(q)[:_MOST_WORDS]
    return " ".join(f'"{word}"' for word in words) + "*" if words else ""


def ranked(q: str, titles: Sequence[ItemLine]) -> list[ItemLine]:
    """Order what was found: the title itself, titles that begin with it, then the most popular items.

    Args:
        q: What somebody typed.
        titles: Items that were found.
    """
    wanted = q.casefold()

    def order(line: ItemLine) -> tuple[bool, bool, int, str]:
        title = line["title"].casefold()
        return title != wanted, not title.startswith(wanted), -line["positives"], line["item_id"]

    return sorted(titles, key=order)
