"""The number of centroids of a level is chosen by the first of these rules that applies.

1. *clusters*: the error falls steeply up to a size and slowly after it. This bend is the number of clusters.
2. *pairs* (level 0): the size at which one pair says most about whether two items are liked together.
3. *items*: a twentieth of the items, at most 256.

In: errors of numbers of centroids, and pairs of items that users liked. Out: a number and the name of the rule.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from qarm_features.evaluation.co_clicks import CodedPairs, shared_lengths, shuffled_shares
from qarm_features.quantizers.arrays.lloyd import nearest_codes

SMALLEST, LARGEST = 4, 1024
ROWS_PER_CODE = 10  # fewest rows of the fitted part for each centroid that is tried
ITEMS_PER_CODE, LARGEST_BY_ITEMS = 20, 256  # rule 3
BEND = 0.5  # fewest bits (binary logarithms of the error) by which a doubling must bring less than the one before it


class Tried(NamedTuple):
    """A number of centroids that was tried for a level.

    Attributes:
        size: Number K of centroids.
        error: Squared error of held-out items after the level, as a share of the variance of all embeddings.
        evidence: Bits that a co-click says about two items having the same code, None without pairs or beyond level 0.
    """

    size: int
    error: float
    evidence: float | None


def sizes_to_try(rows: int) -> list[int]:
    """Return the numbers of centroids that a number of distinct rows can tell apart, at least one.

    Example:
        >>> sizes_to_try(700), sizes_to_try(20)
        ([4, 8, 16, 32, 64], [4])
    """
    sizes = [SMALLEST]
    while 2 * sizes[-1] <= min(LARGEST, rows // ROWS_PER_CODE):
        sizes.append(2 * sizes[-1])
    return sizes


def choose_size(tried: list[Tried], *, items: int) -> tuple[int, str]:
    """Choose a number of centroids by the first rule that applies, and name the rule.

    Args:
        tried: Numbers of centroids with their errors, ascending, each twice the one before.
        items: Number of items of the catalog.

    Example:
        >>> choose_size([Tried(k, e, None) for k, e in ((4, 0.8), (8, 0.4), (16, 0.05), (32, 0.045))], items=9000)
        (16, 'clusters')
        >>> choose_size([Tried(k, 0.9 * k**-0.2, None) for k in (4, 8, 16, 32, 64, 128)], items=900)
        (32, 'items')
    """
    bits = [-math.log2(max(one.error, 1e-9)) for one in tried]
    gains = np.diff(bits)
    bends = gains[:-1] - gains[1:]
    if len(bends) and bends.max() >= BEND:
        return tried[int(bends.argmax()) + 1].size, "clusters"
    with_evidence = [one for one in tried if one.evidence is not None]
    if with_evidence and max(one.evidence or 0.0 for one in with_evidence) > 0:
        return max(with_evidence, key=lambda one: one.evidence or 0.0).size, "pairs"
    return size_by_items(tried, items), "items"


def size_by_items(tried: list[Tried], items: int) -> int:
    """Return the largest number of centroids that is at most a twentieth of the items and at most 256; at least 4.

    Args:
        tried: Numbers of centroids that were tried, the smallest of which is 4.
        items: Number of items of the catalog.
    """
    largest = max(SMALLEST, min(LARGEST_BY_ITEMS, items // ITEMS_PER_CODE))
    return max(one.size for one in tried if one.size <= largest)


def pair_evidence(pairs: np.ndarray, centroids: np.ndarray) -> float:
    """Return how many bits a pair says about two items having the same code.

    It is the relative entropy of the share of pairs with the same code to that share after the targets were exchanged: 0 for
    one code, which all items share, and near 0 for so many that none do.

    Args:
        pairs: Embeddings (P, 2, D).
        centroids: Centroids (K, D).
    """
    trigger, target = (nearest_codes(np.ascontiguousarray(side), centroids)[:, None] for side in pairs.swapaxes(0, 1))
    number = np.unique(pairs.reshape(-1, pairs.shape[2]), axis=0, return_inverse=True)[1].reshape(-1, 2)
    coded = CodedPairs(np.arange(len(pairs)), trigger, target, *number.T)
    share, (exchanged,) = float((shared_lengths(coded) > 0).mean()), shuffled_shares(coded)
    if exchanged is None or share <= exchanged:
        return 0.0
    return _entropy_to(share, exchanged) + _entropy_to(1 - share, 1 - exchanged)


def _entropy_to(one: float, other: float) -> float:
    return one * math.log2(one / other) if one > 0 and other > 0 else 0.0
