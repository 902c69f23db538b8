"""Items as they stand in lists.

In: rows of the table ``items``. Out: ``contract.ItemLine``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

from qarm_features.explorer.contract import ItemLine
from qarm_features.explorer.schema import codes_of

COLUMNS = "item_id, title, codes, positives, picture"
_T = TypeVar("_T")


def line(row: Sequence[Any]) -> ItemLine:
    """Return the line of a row with the columns ``COLUMNS``."""
    item_id, title, codes, positives, picture = row
    return {
        "item_id": item_id,
        "title": title,
        "rq_codes": codes_of(codes),
        "positives": positives,
        "picture": bool(picture),
    }


def unknown(item_id: str) -> ItemLine:
    """Return the line of an item that the explorer does not have."""
    return {"item_id": item_id, "title": "", "rq_codes": [], "positives": 0, "picture": False}


def by_turns(one: Sequence[_T], other: Sequence[_T]) -> Iterator[list[_T]]:
    """Yield the first values of both, then the second ones, and so on.

    Example:
        >>> list(by_turns([1, 2], [3]))
        [[1, 3], [2]]
    """
    nothing: Any = object()
    for pair in zip_longest(one, other, fillvalue=nothing):
        yield [value for value in pair if value is not nothing]
