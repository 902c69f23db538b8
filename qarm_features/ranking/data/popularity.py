"""What head, torso and tail mean, for encoders and ranking models alike.

In: the number of impressions of items before the period that is measured. Out: the smallest numbers of a head and of a torso
item.
"""

from __future__ import annotations

import numpy as np

HEAD, TORSO = 0.25, 0.75  # shares of impressions at which the head and the torso end
FEW = 5  # highest number of positives that counts as few
HEAD_WORDS = f"most popular, {HEAD:.0%} of impressions"
TORSO_WORDS = f"the next {TORSO - HEAD:.0%} of impressions"
TAIL_WORDS = f"the last {1 - TORSO:.0%} of impressions"


def popularity_limits(impressions: np.ndarray, items: np.ndarray) -> tuple[int, int]:
    """Return the smallest numbers of impressions of a head item and of a torso item. All other items are tail.

    With items sorted by popularity, the head begins with the first impression, the torso after 25% of all impressions and
    the tail after 75%. An item belongs to the part in which its impressions begin. Items with as many impressions as each
    other belong together.

    Args:
        impressions: (N,) distinct numbers of impressions, in any order.
        items: (N,) numbers of items with so many impressions.

    Example:
        >>> popularity_limits(np.array([4, 3, 2, 1]), np.array([1, 1, 1, 1]))
        (4, 2)
    """
    order = np.argsort(-impressions)
    impressions, shown = impressions[order], (impressions * items)[order].astype(np.float64)
    before = (np.cumsum(shown) - shown) / max(shown.sum(), 1.0)  # share of impressions of more popular items
    head, torso = (impressions[(before < end) & (shown > 0)] for end in (HEAD, TORSO))
    return (int(head.min()) if len(head) else 0, int(torso.min()) if len(torso) else 0)
