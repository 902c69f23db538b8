"""Hard negatives: of the items that are drawn from the whole catalog, an item keeps those that share a type with it.

In: the types of items. Out: known pairs for the training data, which then has few negatives among the drawn items.
"""

from __future__ import annotations

import numpy as np

from qarm_features.alignment.known_pairs import KnownPairs


class OfOtherTypes(KnownPairs):
    """Known pairs, and all pairs of an item and a drawn item without a common type.

    Args:
        known: The known pairs.
        types: (n, T) bool, the types of each item.
    """

    def __init__(self, known: KnownPairs, types: np.ndarray) -> None:
        super().__init__(known.keys, known.num_items)
        self._types = types.astype(np.float32)

    def among(self, index: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the pairs that are no negatives; candidates in ascending order are drawn items, others those of the batch."""
        rows, columns = super().among(index, candidates)
        if not (np.diff(candidates) > 0).all():
            return rows, columns
        others = np.nonzero(self._types[index] @ self._types[candidates].T == 0)
        return np.concatenate([rows, others[0]]), np.concatenate([columns, others[1]])
