"""True click chances in, the best AUC that any model can have out, and what of it each part of the logit brings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qarm_features.ranking.train.metrics import area_under_roc

from .impressions import PARTS


def expected_auc(chance: np.ndarray, score: np.ndarray) -> float:
    """Computes the AUC that a score has over all labels that could have been drawn.

    A row is a positive with its chance and else a negative; equal scores count one half.

    Args:
        chance: (N,) of label 1, in (0, 1).
        score: (N,) real numbers.

    Returns:
        In [0, 1]: the chance that of a random positive and a random negative, of two rows, the positive scores higher.
    """
    _, tie = np.unique(score, return_inverse=True)
    positive, negative = np.bincount(tie, chance), np.bincount(tie, 1 - chance)
    below = np.cumsum(negative) - negative
    itself = (chance * (1 - chance)).sum()  # a row is not both at once
    above_or_half = (positive * (below + negative / 2)).sum() - itself / 2
    return float(above_or_half / (chance.sum() * (1 - chance).sum() - itself))


def oracle_auc(parts: np.ndarray, label: np.ndarray, known: Iterable[str]) -> float:
    """Returns the AUC of the sum of the known parts (N, 7) of the true logits against the labels (N,)."""
    columns = [PARTS.index(name) for name in known]
    return area_under_roc(label, parts[:, columns].sum(axis=1))


def gain_of_each_part(parts: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Returns how much lower the best AUC is to whoever knows all parts but one."""
    best = oracle_auc(parts, label, PARTS)
    return {name: best - oracle_auc(parts, label, [other for other in PARTS if other != name]) for name in PARTS}
