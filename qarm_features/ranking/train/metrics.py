"""Ranking metrics with numpy alone.

In: labels and scores. Out: numbers. The area under the ROC curve is computed from rank sums (Mann-Whitney U): it is the
chance that a random positive row scores above a random negative row, where ties count one half.
"""

import numpy as np


def area_under_roc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the AUC over all rows, in [0, 1]; NaN if all labels are 0, all are 1, or there is no row.

    Args:
        labels: (B,) 0 or 1, False or True.
        scores: (B,) real numbers; only their order counts.

    Raises:
        ValueError: If a label is neither 0 nor 1, a score is NaN, or the lengths differ.

    Example:
        >>> area_under_roc(np.array([0, 0, 1]), np.array([0.1, 0.4, 0.3]))
        0.5
    """
    areas = areas_of_users(labels, scores, np.zeros(len(labels), dtype=np.int64))
    return float(areas[0]) if len(areas) else float("nan")


def user_auc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> float:
    """Returns the plain mean of the AUC per user over the users with both labels, in [0, 1]; NaN if there is none.

    Args:
        labels: (B,) 0 or 1.
        scores: (B,) real numbers.
        users: (B,) integers, one value per user.

    Raises:
        ValueError: If a label is neither 0 nor 1, a score is NaN, or the lengths differ.

    Example:
        >>> labels, scores, users = np.array([0, 1, 1, 0]), np.array([0.1, 0.4, 0.3, 0.9]), np.array([7, 7, 8, 8])
        >>> user_auc(labels, scores, users)
        0.5
    """
    areas = areas_of_users(labels, scores, users)
    areas = areas[~np.isnan(areas)]
    return float(areas.mean()) if len(areas) else float("nan")


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Returns the mean binary cross-entropy in nats; NaN if there are no rows.

    Args:
        labels: (B,) 0 or 1.
        logits: (B,) log-odds of label 1.

    Raises:
        ValueError: If a label is neither 0 nor 1, a logit is NaN, or the lengths differ.

    Example:
        >>> round(log_loss(np.array([0, 1]), np.array([0.0, 0.0])), 4)
        0.6931
    """
    labels = checked_labels(labels, logits, "logits")
    if len(labels) == 0:
        return float("nan")
    logits = np.asarray(logits, dtype=np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


def areas_of_users(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Returns the AUC (U,) of each distinct user, in ascending order of the users; NaN where a user has one label only.

    Args:
        labels: (B,) 0 or 1.
        scores: (B,) real numbers.
        users: (B,) integers, one value per user.

    Raises:
        ValueError: If a label is neither 0 nor 1, a score is NaN, or the lengths differ.

    Example:
        >>> areas_of_users(np.array([0, 1, 1]), np.array([0.1, 0.4, 0.3]), np.array([7, 7, 8]))
        array([ 1., nan])
    """
    labels = checked_labels(labels, scores, "scores")
    if len(users) != len(labels):
        raise ValueError(
            f"users have length {len(users)}, must have that of labels, {len(labels)}. Pass one of each per row."
        )
    order = np.lexsort((scores, users))
    labels, scores, groups = labels[order], np.asarray(scores)[order], np.asarray(users)[order]
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


def checked_labels(labels: np.ndarray, scores: np.ndarray, name: str) -> np.ndarray:
    """Returns labels as float64, after checking them and their scores.

    Args:
        labels: (B,) 0 or 1, False or True.
        scores: (B,) real numbers.
        name: Name of the scores.

    Raises:
        ValueError: If a label is neither 0 nor 1, a score is NaN, or the lengths differ.
    """
    labels, scores = np.asarray(labels).astype(np.float64), np.asarray(scores)
    if labels.shape != scores.shape:
        raise ValueError(
            f"{name} have shape {scores.shape}, must have that of labels, {labels.shape}. Pass one of each per row."
        )
    others = np.unique(labels[(labels != 0) & (labels != 1)])  # a NaN is neither
    if len(others):
        swapped = np.isin(scores, (0, 1)).all()
        remedy = (
            f"The {name} are all 0 or 1: swap the arguments."
            if swapped
            else "Set labels to 1 for a positive and else to 0."
        )
        raise ValueError(f"labels hold {others[0]:g}, must hold only 0 and 1. {remedy}")
    if np.isnan(scores).any():
        raise ValueError(f"{name} hold {int(np.isnan(scores).sum())} NaN, must hold none. Lower the learning rate.")
    return labels
