"""Ranking metrics with numpy alone.

In: labels and scores. Out: numbers. The area under the ROC curve is computed from rank sums (Mann-Whitney U): it is the
chance that a random positive row scores above a random negative row, where ties count one half.
"""

import numpy as np


def area_under_roc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the AUC over all rows, in [0, 1]; NaN if there is only one label.

    Args:
        labels: (B,) 0 or 1.
        scores: (B,) real numbers; only their order counts.

    Raises:
        ValueError: If a score is NaN.

    Example:
        >>> area_under_roc(np.array([0, 0, 1]), np.array([0.1, 0.4, 0.3]))
        0.5
    """
    areas = _area_per_group(labels, scores, np.zeros(len(labels), dtype=np.int64))
    return float(areas[0]) if len(areas) else float("nan")


def user_auc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> float:
    """Returns the plain mean of the AUC per user over the users with both labels, in [0, 1]; NaN if there is none.

    Args:
        labels: (B,) 0 or 1.
        scores: (B,) real numbers.
        users: (B,) integers, one value per user.

    Raises:
        ValueError: If a score is NaN.

    Example:
        >>> labels, scores, users = np.array([0, 1, 1, 0]), np.array([0.1, 0.4, 0.3, 0.9]), np.array([7, 7, 8, 8])
        >>> user_auc(labels, scores, users)
        0.5
    """
    areas = _area_per_group(labels, scores, users)
    areas = areas[~np.isnan(areas)]
    return float(areas.mean()) if len(areas) else float("nan")


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Returns the mean binary cross-entropy in nats; NaN if there are no rows.

    Args:
        labels: (B,) 0 or 1.
        logits: (B,) log-odds of label 1.

    Example:
        >>> round(log_loss(np.array([0, 1]), np.array([0.0, 0.0])), 4)
        0.6931
    """
    if len(labels) == 0:
        return float("nan")
    logits = np.asarray(logits, dtype=np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


def _area_per_group(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the AUC of each distinct group, in ascending order of the groups; NaN where a group has one label."""
    if np.isnan(scores).any():
        raise ValueError(f"scores hold {int(np.isnan(scores).sum())} NaN, must hold none. Lower the learning rate.")
    order = np.lexsort((scores, groups))
    labels, scores, groups = np.asarray(labels)[order], np.asarray(scores)[order], np.asarray(groups)[order]
    rows = np.arange(len(labels))
    new_group = np.diff(groups, prepend=groups[:1] - 1) != 0
    new_score = new_group | (np.diff(scores, prepend=scores[:1]) != 0)
    group, tie = np.cumsum(new_group) - 1, np.cumsum(new_score) - 1
    first_of_group = rows[new_group][group]
    # Tied rows share the mean of their ranks, which start at 1 in each group.
    tied = np.bincount(tie)
    first_of_tie = rows[new_score][tie]
    rank = first_of_tie - first_of_group + (tied[tie] + 1) / 2

    positive = np.bincount(group, weights=labels)
    negative = np.bincount(group) - positive
    rank_sum = np.bincount(group, weights=rank * labels)
    both = (positive > 0) & (negative > 0)
    area = np.full(len(positive), np.nan)
    area[both] = (rank_sum - positive * (positive + 1) / 2)[both] / (positive * negative)[both]
    return area
