"""The best AUC that any model can reach, from true click probabilities, and the contribution of each part of the logit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qarm_features.ranking.train.metrics import area_under_roc

from .impressions import PARTS


def expected_auc(chance: np.ndarray, score: np.ndarray) -> float:
    """Compute the expected AUC of a score over random labels.

    Args:
        chance: (N,) probabilities of label 1, in (0, 1).
        score: (N,) scores.

    Returns:
        The probability in [0, 1] that a random positive scores higher than a random negative of another row. Equal scores
        count one half.
    """
    _, tie = np.unique(score, return_inverse=True)
    positive, negative = np.bincount(tie, chance), np.bincount(tie, 1 - chance)
    below = np.cumsum(negative) - negative
    itself = (chance * (1 - chance)).sum()  # a row is never both positive and negative
    above_or_half = (positive * (below + negative / 2)).sum() - itself / 2
    return float(above_or_half / (chance.sum() * (1 - chance).sum() - itself))


def oracle_auc(parts: np.ndarray, label: np.ndarray, known: Iterable[str]) -> float:
    """Return the AUC of the sum of the known parts of the true logits (N, 7) on the labels (N,)."""
    columns = [PARTS.index(name) for name in known]
    return area_under_roc(label, parts[:, columns].sum(axis=1))


def gain_of_each_part(parts: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return how much lower the best AUC is without each part."""
    best = oracle_auc(parts, label, PARTS)
    return {name: best - oracle_auc(parts, label, [other for other in PARTS if other != name]) for name in PARTS}
