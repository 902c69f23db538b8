"""What somebody typed becomes a query of SQLite's full-text search, in which nothing has a meaning of its own.

In: a text of strangers. Out: a query of quoted words, and the order of the titles that it finds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from qarm_features.explorer.contract import ItemLine

_WORDS = re.compile(r"[^\W_]+")
_MOST_WORDS = 12


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


def ranked(q: str, found: Sequence[ItemLine]) -> list[ItemLine]:
    """Order what was found: the title itself, titles that begin with it, then the most popular items.

    Args:
        q: What somebody typed.
        found: Items that were found.
    """
    wanted = q.casefold()

    def order(line: ItemLine) -> tuple[bool, bool, int, str]:
        title = line["title"].casefold()
        return title != wanted, not title.startswith(wanted), -line["positives"], line["item_id"]

    return sorted(found, key=order)
