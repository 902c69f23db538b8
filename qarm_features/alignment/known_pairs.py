"""Look up known item pairs, because paired items of a batch must not be negatives of each other.

In: pairs of item indexes. Out: a sorted array of int64 keys, 16 bytes for each pair, which may be a memory-mapped file.
"""

from __future__ import annotations

import numpy as np


class KnownPairs:
    """Look up item pairs in both directions.

    Args:
        keys: Sorted, distinct keys int64 from ``pair_keys``: ``one * num_items + other`` for every pair in both directions.
            They may be memory-mapped.
        num_items: Number of items; indexes are in [0, num_items).
    """

    def __init__(self, keys: np.ndarray, num_items: int) -> None:
        self.keys, self.num_items = keys, num_items

    def among(self, index: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the known pairs between items and candidates, in time proportional to the pairs of the items.

        Args:
            index: Item indexes (B,) int64.
            candidates: Item indexes (C,) int64.

        Returns:
            Rows in [0, B) and columns in [0, C), both int64: ``index[row]`` and ``candidates[column]`` are a known pair.
        """
        order = np.argsort(candidates, kind="stable")
        sorted_candidates = candidates[order]
        start = np.searchsorted(self.keys, index * self.num_items)
        count = np.searchsorted(self.keys, (index + 1) * self.num_items) - start
        rows = np.repeat(np.arange(len(index)), count)
        others = self.keys[_ranges(start, count)] - index[rows] * self.num_items
        first = np.searchsorted(sorted_candidates, others, side="left")
        found = np.searchsorted(sorted_candidates, others, side="right") - first  # a candidate may occur several times
        return np.repeat(rows, found), order[_ranges(first, found)]


def pair_keys(trigger_index: np.ndarray, target_index: np.ndarray, num_items: int) -> np.ndarray:
    """Return the keys of pairs in both directions.

    Args:
        trigger_index: Indexes (P,) int64 of trigger items, in [0, num_items).
        target_index: Indexes (P,) int64 of target items, in [0, num_items).
        num_items: Number of items, at most 3,037,000,499, so that a key fits into int64.

    Returns:
        Sorted, distinct keys int64, at most 2 P.
    """
    return np.unique(
        np.concatenate([trigger_index * num_items + target_index, target_index * num_items + trigger_index])
    )


def _ranges(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return start[0], start[0] + 1, ... (count[0] numbers), then start[1], ... and so on, as one int64 array."""
    skipped = np.cumsum(count) - count
    return np.arange(int(count.sum())) + np.repeat(start - skipped, count)
