"""The parts of a page of one file, one after the other, so that only one is in memory beside the lines of the items.

In: an ``Explorer``. Out: (name, content) of each part, as ``bundle`` describes them.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
from collections.abc import Callable, Iterator
from typing import Any, cast

from qarm_features.explorer.contract import ItemLine
from qarm_features.explorer.store import Explorer

_ITEMS, _USERS, _PICTURES = 1000, 100, 200  # of one part
_MOST_USERS, _MOST_COLLISIONS, _MOST_CHILDREN = 1000, 1000, 250
_MOST_TEXT = 1500  # characters of the text of an item
_MOST_PICTURE_BYTES = 40_000_000
_STEP = 1000


def item_hash(item_id: str) -> int:
    """Return a number from 0 to 2^64 - 1, evenly spread over IDs and the same in every process."""
    return int.from_bytes(hashlib.blake2b(item_id.encode("utf-8", "replace"), digest_size=8).digest())


def all_lines(explorer: Explorer) -> Iterator[ItemLine]:
    """Yield all items of an explorer in the order of their codes."""
    offset = 0
    while some := explorer.items("", offset, _STEP)["items"]:
        yield from some
        offset += len(some)


def chosen_items(explorer: Explorer, most: int) -> list[ItemLine]:
    """Return at most ``most`` items: of more, those with the lowest hash of their ID."""
    if explorer.items("", 0, 1)["total"] <= most:
        return list(all_lines(explorer))
    highest = heapq.nsmallest(most, (item_hash(line["item_id"]) for line in all_lines(explorer)))[-1]
    return [line for line in all_lines(explorer) if item_hash(line["item_id"]) <= highest]


class Lines:
    """The items of the page by number: first those with a page, then others that lists of the page name.

    Args:
        chosen: Items with a page, in the order of their codes.
    """

    def __init__(self, chosen: list[ItemLine]) -> None:
        self.all = list(chosen)
        self.pages = len(chosen)
        self._number = {line["item_id"]: number for number, line in enumerate(chosen)}

    def has_page(self, item_id: str) -> bool:
        """Say whether an item has a page here."""
        return self._number.get(item_id, self.pages) < self.pages

    def fold(self, value: Any) -> Any:
        """Return a value of the contract in which each item is replaced by ``{"#": number}``."""
        if isinstance(value, dict):
            if "item_id" in value and "positives" in value:
                return {"#": self._number_of(cast(ItemLine, value))}
            return {name: self.fold(one) for name, one in value.items()}
        return [self.fold(one) for one in value] if isinstance(value, (list, tuple)) else value

    def _number_of(self, line: ItemLine) -> int:
        if line["item_id"] not in self._number:
            self._number[line["item_id"]] = len(self.all)
            self.all.append({**line, "picture": False})
        return self._number[line["item_id"]]

    def columns(self, pictures: list[int]) -> dict[str, Any]:
        """Return the items as columns.

        Args:
            pictures: Numbers of the items whose picture is in the page, in order.
        """
        return {
            "item_id": [line["item_id"] for line in self.all],
            "title": [line["title"] for line in self.all],
            "codes": [".".join(map(str, line["rq_codes"])) for line in self.all],
            "positives": [line["positives"] for line in self.all],
            "pictures": pictures,
            "pages": self.pages,
        }


class Parts:
    """Makes the parts.

    Args:
        explorer: What the page shows.
        lines: Its items.
        progress: Called with the number of items that are done and of all.
    """

    def __init__(self, explorer: Explorer, lines: Lines, progress: Callable[[int, int], None]) -> None:
        self._explorer, self._lines, self._progress = explorer, lines, progress
        self._pictures = self._chosen_pictures()

    def all(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the content of each part. ``lines`` is the last one, because the others add items to it."""
        yield from self._items()
        yield from self._trees()
        yield from self._users()
        yield from self._picture_parts()
        yield "index", self._index()
        yield "lines", self._lines.columns(self._pictures)

    def _items(self) -> Iterator[tuple[str, Any]]:
        total = self._lines.pages
        for start in range(0, total, _ITEMS):
            pages = [self._item(line["item_id"]) for line in self._lines.all[start : min(start + _ITEMS, total)]]
            self._progress(start + len(pages), total)
            yield f"items-{start // _ITEMS}", pages

    def _item(self, item_id: str) -> dict[str, Any]:
        """Return an item's page without what the lines and the tree know. Neighbors without a page are left out."""
        page: dict[str, Any] = {**self._explorer.item(item_id)}
        for name in ("by_prefix", "by_embedding", "by_co_click"):
            page[name] = [near for near in page[name] if self._lines.has_page(near["item"]["item_id"])]
        del page["path"]
        text = page["text"]
        page["text"] = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} ..."
        return self._lines.fold(page)

    def _trees(self) -> Iterator[tuple[str, Any]]:
        """Yield what is below each prefix that has items here, a part for each code of level 1."""
        levels = self._explorer.summary()["num_levels"]
        prefixes: dict[int, dict[str, None]] = {}
        for line in self._lines.all[: self._lines.pages]:
            codes = line["rq_codes"]
            for level in range(1, levels):
                prefixes.setdefault(codes[0], {})[".".join(map(str, codes[:level]))] = None
        for first, below in prefixes.items():
            yield (
                f"tree-{first}",
                {one: self._lines.fold(self._explorer.tree(one, _MOST_CHILDREN)) for one in below},
            )

    def _users(self) -> Iterator[tuple[str, Any]]:
        for start in range(0, _MOST_USERS, _USERS):
            some = self._explorer.users(start, _USERS)["users"]
            if some:
                pages = {one["user_id"]: self._lines.fold(self._explorer.user(one["user_id"])) for one in some}
                yield f"users-{start // _USERS}", pages

    def _picture_parts(self) -> Iterator[tuple[str, Any]]:
        for start in range(0, len(self._pictures), _PICTURES):
            some = self._pictures[start : start + _PICTURES]
            contents = {number: self._explorer.picture(self._lines.all[number]["item_id"]) for number in some}
            encoded = {number: base64.b64encode(content or b"").decode() for number, content in contents.items()}
            yield f"pictures-{start // _PICTURES}", encoded

    def _chosen_pictures(self) -> list[int]:
        """Return the items whose pictures have room, those that the top of the tree shows before others."""
        top = self._explorer.tree("", _MOST_CHILDREN)["children"]
        first = {line["item_id"] for node in top for line in node["typical"]}
        chosen = self._lines.all[: self._lines.pages]
        wanted = [(line["item_id"] not in first, item_hash(line["item_id"]), n) for n, line in enumerate(chosen)]
        room, found = _MOST_PICTURE_BYTES, []
        for _, _, number in sorted(one for one in wanted if chosen[one[2]]["picture"]):
            room -= len(self._explorer.picture(chosen[number]["item_id"]) or b"")
            if room < 0:
                break
            found.append(number)
        return sorted(found)

    def _index(self) -> dict[str, Any]:
        explorer, fold = self._explorer, self._lines.fold
        points = explorer.map()
        known = [n for n, item_id in enumerate(points["item_id"]) if self._lines.has_page(item_id)]
        users = explorer.users(0, _MOST_USERS)
        return {
            "summary": {**explorer.summary(), "shown_items": self._lines.pages, "users": len(users["users"])},
            "moves": explorer.moves(),
            "figures": explorer.figures(),
            "lineage": explorer.lineage(),
            "collisions": fold(explorer.collisions(0, _MOST_COLLISIONS)),
            "tree": fold(explorer.tree("", _MOST_CHILDREN)),
            "map": {
                **{name: [points[name][n] for n in known] for name in ("item_id", "x", "y")},
                "sampled": points["sampled"] or len(known) < len(points["x"]),
                "method": points["method"],
            },
            "users": users["users"],
            "sizes": {"items": _ITEMS, "users": _USERS, "pictures": _PICTURES},
        }
