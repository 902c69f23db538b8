"""A cache of the codes of the items that were asked for last, in the serving process.

In: item IDs, and rows that a release served. Out: the codes that the cache holds. The cache has a fixed size and holds one
release at a time. An entry stays right for as long as the release is served, until an item is deleted or assigned anew: then
the identity of the release is another one. Items that were not found are not cached, because the next publication may bring
them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np


class CodeCache:
    """Holds the codes of the ``size`` items that were asked for last. Any number of threads may use it.

    Args:
        size: Number of items, at least 1. An item takes 8 bytes per level and about 150 bytes for its entry.

    Example:
        >>> import numpy as np
        >>> cache = CodeCache(size=2)
        >>> _ = cache.get(("cb0",), [50, 181], num_levels=2)
        >>> cache.put(("cb0",), [50], np.array([[3, 7]]))
        >>> codes, held = cache.get(("cb0",), [50, 181], num_levels=2)
        >>> codes.tolist(), held.tolist()
        ([[3, 7], [-1, -1]], [True, False])
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._release: tuple[Any, ...] | None = None
        self._slots: OrderedDict[int | str, int] = OrderedDict()
        self._codes = np.zeros((0, 0), np.int64)

    def get(
        self, release: tuple[Any, ...], item_ids: Sequence[int | str], num_levels: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the cached codes of n items. A call with another release than the last one empties the cache.

        Args:
            release: Identity of the release.
            item_ids: n distinct item IDs.
            num_levels: L, number of levels of the release.

        Returns:
            Codes (n, L) int64, -1 where an item is not cached; held (n,) bool, True where an item is cached.
        """
        with self._lock:
            if release != self._release:
                self._release = release
                self._slots.clear()
                self._codes = np.full(
                    (self._size + 1, num_levels), -1, np.int64
                )  # the last row stands for "not cached"
            find, absent = self._slots.get, self._size
            slots = np.fromiter((find(item_id, absent) for item_id in item_ids), np.int64, len(item_ids))
            held = slots != absent
            codes = self._codes[slots]
            for item_id, is_held in zip(item_ids, held.tolist(), strict=True):
                if is_held:
                    self._slots.move_to_end(item_id)
        return codes, held

    def put(self, release: tuple[Any, ...], item_ids: Sequence[int | str], codes: np.ndarray) -> None:
        """Cache codes, unless the cache holds another release by now.

        Args:
            release: Identity of the release that served the codes.
            item_ids: n distinct item IDs.
            codes: (n, L) int64.
        """
        with self._lock:
            if release != self._release:
                return
            for item_id, row in zip(item_ids[-self._size :], codes[-self._size :], strict=True):
                slot = self._slots.pop(item_id, None)
                if slot is None:
                    is_full = len(self._slots) == self._size
                    slot = self._slots.popitem(last=False)[1] if is_full else len(self._slots)
                self._slots[item_id] = slot
                self._codes[slot] = row
