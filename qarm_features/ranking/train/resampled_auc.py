"""How far an AUC moves with the users of a split: the AUC of resampled users, because rows of one user are not independent.

In: labels, scores and users of rows. Out: one AUC per draw of users, and 95% intervals of AUCs and of their differences. The
draws depend on the seed and on the sorted users alone, so that two models of the same rows are resampled in pairs.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np

from qarm_features.ranking.train.metrics import areas_of_users, checked_labels

DRAWS = 1000
_FEWEST_DRAWS, _WORK, _CHUNK = 200, 200_000_000, 4_000_000  # draws; rows x draws in all; rows x draws in memory


class ResampledAuc(NamedTuple):
    """The AUCs of D draws, each of as many users as there are, with replacement.

    Attributes:
        auc: (D,) AUC over all rows of the drawn users; NaN where they have one label only.
        user_auc: (D,) mean AUC per drawn user with both labels; NaN where there is none.
        drawn_from: Short hash of the users and of their numbers of rows and positives. Draws of two models are pairs if it is
            the same for both.
    """

    auc: np.ndarray
    user_auc: np.ndarray
    drawn_from: str


def resampled_auc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray, *, seed: int = 0) -> ResampledAuc | None:
    """Computes the AUC of resampled users, exactly: the rows are sorted once, and each draw weights them.

    Args:
        labels: (B,) 0 or 1.
        scores: (B,) real numbers.
        users: (B,) integers, one value per user.
        seed: Seed of the draws.

    Returns:
        1,000 draws, fewer for more than 200,000 rows, but at least 200; None with fewer than two users.

    Raises:
        ValueError: If a label is neither 0 nor 1, a score is NaN, or the lengths differ.

    Example:
        >>> labels, scores = np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.2, 0.3])
        >>> float(resampled_auc(labels, scores, np.array([7, 7, 8, 8])).auc.min())
        1.0
    """
    labels = checked_labels(labels, scores, "scores")
    areas = areas_of_users(labels, scores, users)  # also checks the lengths
    distinct, user = np.unique(users, return_inverse=True)
    if len(distinct) < 2:
        return None
    order = np.argsort(scores, kind="stable")
    labels, scores, user = labels[order], np.asarray(scores)[order], user[order]
    ties = np.flatnonzero(np.diff(scores, prepend=scores[:1] - 1) != 0)
    rows, num_users = len(labels), len(distinct)
    has_area = ~np.isnan(areas)
    rng = np.random.default_rng(seed)
    draws = min(DRAWS, max(_FEWEST_DRAWS, _WORK // rows))
    auc, user_auc = np.empty(draws), np.empty(draws)
    at_once = max(1, _CHUNK // rows)
    for start in range(0, draws, at_once):
        chunk = slice(start, min(start + at_once, draws))
        times = np.stack(
            [
                np.bincount(rng.integers(num_users, size=num_users), minlength=num_users)
                for _ in range(*chunk.indices(draws))
            ]
        ).astype(np.float64)
        weights = times[:, user]
        positive = np.add.reduceat(weights * labels, ties, axis=1)
        negative = np.add.reduceat(weights, ties, axis=1) - positive
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(1) * negative.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            auc[chunk] = (positive * below).sum(1) / pairs
            user_auc[chunk] = times[:, has_area] @ areas[has_area] / times[:, has_area].sum(1)
    return ResampledAuc(auc, user_auc, _hash_of(distinct, user, labels))


def interval(draws: np.ndarray) -> tuple[float, float] | None:
    """Returns the bounds of the middle 95% of draws; None if a draw is NaN.

    Args:
        draws: (D,) values of a figure, or of the difference of two figures in the same draws.

    Example:
        >>> interval(np.array([0.5, 0.5, 0.5]))
        (0.5, 0.5)
    """
    low, high = np.quantile(draws, [0.025, 0.975])
    return None if math.isnan(low) or math.isnan(high) else (float(low), float(high))


def _hash_of(distinct: np.ndarray, user: np.ndarray, labels: np.ndarray) -> str:
    counts = np.stack([np.bincount(user), np.bincount(user, weights=labels).astype(np.int64)])
    return hashlib.sha256(np.ascontiguousarray(distinct).tobytes() + counts.tobytes()).hexdigest()[:12]
