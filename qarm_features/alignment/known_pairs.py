"""Known item pairs: which items of a batch must not be taken for negatives of each other.

In: pairs of item indexes. Out: a sorted array of int64 keys, 16 bytes a pair, that can lie in a memory-mapped file.
"""

from __future__ import annotations

import numpy as np


class KnownPairs:
    """Item pairs, looked up in either direction.

    Args:
        keys: sorted, distinct int64, ``one * num_items + other`` of every pair in both directions; see
            :func:`pair_keys`. May be memory-mapped.
        num_items: number of items the indexes count.
    """

    def __init__(self, keys: np.ndarray, num_items: int):
        self.keys, self.num_items = keys, num_items

    def among(self, index: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the known pairs between items and candidates; time follows the items' own pairs, not B times C.

        Args:
            index: (B,) int64 item indexes.
            candidates: (C,) int64 item indexes.

        Returns:
            Rows in [0, B) and columns in [0, C), both int64: index[row] and candidates[column] are a known pair.
        """
        order = np.argsort(candidates, kind="stable")
        sorted_candidates = candidates[order]
        start = np.searchsorted(self.keys, index * self.num_items)
        count = np.searchsorted(self.keys, (index + 1) * self.num_items) - start
        rows = np.repeat(np.arange(len(index)), count)
        others = self.keys[_ranges(start, count)] - index[rows] * self.num_items
        first = np.searchsorted(sorted_candidates, others, side="left")
        found = np.searchsorted(sorted_candidates, others, side="right") - first  # a candidate may stand repeatedly
        return np.repeat(rows, found), order[_ranges(first, found)]


def pair_keys(trigger_index: np.ndarray, target_index: np.ndarray, num_items: int) -> np.ndarray:
    """Returns the sorted, distinct keys of pairs in both directions.

    Args:
        trigger_index: (P,) int64 in [0, num_items).
        target_index: (P,) int64 in [0, num_items).
        num_items: at most 3,037,000,499, so that a key fits int64.
    """
    return np.unique(
        np.concatenate([trigger_index * num_items + target_index, target_index * num_items + trigger_index])
    )


def _ranges(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns start[0], start[0] + 1, ... (count[0] numbers), start[1], ... as one int64 array."""
    skipped = np.cumsum(count) - count
    return np.arange(int(count.sum())) + np.repeat(start - skipped, count)
