"""Codes of the items asked for last, in the process that serves them: bounded, and of one release at a time.

In: item IDs, and rows that a release served. Out: the codes that are held. A semantic ID never changes within a release, so
a row is right for as long as the release is served. Items that were not found are not held: the next publication may bring
them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np


class CodeCache:
    """Holds the codes of at most ``size`` items, those asked for last; any number of threads may use it.

    Args:
        size: Items; a row takes 8 bytes per level and about 150 bytes for its place.
    """

    def __init__(self, size: int):
        self._size = size
        self._turn = threading.Lock()
        self._release: tuple | None = None
        self._slots: OrderedDict[int | str, int] = OrderedDict()
        self._codes = np.zeros((0, 0), np.int64)

    def get(self, release: tuple, item_ids: Sequence[int | str], num_levels: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns what is held of n items; another release than before empties the cache.

        Args:
            release: The release's identity.
            item_ids: n item IDs, each once.
            num_levels: L.

        Returns:
            Codes (n, L) int64, -1 where not held; held (n,) bool.
        """
        with self._turn:
            if release != self._release:
                self._release = release
                self._slots.clear()
                self._codes = np.full((self._size + 1, num_levels), -1, np.int64)  # the last row: not held
            find, none = self._slots.get, self._size
            slots = np.fromiter((find(item_id, none) for item_id in item_ids), np.int64, len(item_ids))
            held = slots != none
            codes = self._codes[slots]
            for item_id, is_held in zip(item_ids, held.tolist(), strict=True):
                if is_held:
                    self._slots.move_to_end(item_id)
        return codes, held

    def put(self, release: tuple, item_ids: Sequence[int | str], codes: np.ndarray) -> None:
        """Holds the codes (n, L) of n items that ``release`` served; nothing where the cache has moved to another release."""
        with self._turn:
            if release != self._release:
                return
            for item_id, row in zip(item_ids[-self._size :], codes[-self._size :], strict=True):
                slot = self._slots.pop(item_id, None)
                if slot is None:
                    full = len(self._slots) == self._size
                    slot = self._slots.popitem(last=False)[1] if full else len(self._slots)
                self._slots[item_id] = slot
                self._codes[slot] = row
