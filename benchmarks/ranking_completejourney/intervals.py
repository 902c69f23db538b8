"""Intervals over redrawn households, and the correction for several claims.

In: scores of the same rows from two models. Out: their AUCs under redrawn households, an interval, a p-value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

DRAWS = 10_000  # fewer cannot tell 30 claims apart from chance after the correction


class RedrawnHouseholds:
    """Draws of households with replacement, the same for every score, so that differences are paired.

    Args:
        households: (N,) household of each row.
        draws: Number of draws.
        seed: Seed of the draws.
    """

    def __init__(self, households: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> None:
        distinct, self._place = np.unique(households, return_inverse=True)
        rng, size = np.random.default_rng(seed), len(distinct)
        chosen = rng.integers(0, size, (draws, size))
        self._times = np.stack([np.bincount(drawn, minlength=size).astype(np.int16) for drawn in chosen])  # (draws, H)

    def aucs(self, label: np.ndarray, score: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Return the AUC (draws,) of the rows of a slice under each draw; NaN where a draw has one label only.

        Args:
            label: (N,) 0 or 1.
            score: (N,) scores; equal ones count one half.
            where: (N,) bool, True for the rows of the slice.
        """
        order = np.flatnonzero(where)[np.argsort(score[where], kind="stable")]
        place, positive = self._place[order], label[order] > 0
        ordered = score[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))  # of runs of equal scores
        return np.array([_auc(times[place], positive, starts) for times in self._times])


def _auc(weight: np.ndarray, positive: np.ndarray, starts: np.ndarray) -> float:
    """Return the AUC of rows in the order of their scores, each counted ``weight`` times."""
    of_positive = np.add.reduceat(np.where(positive, weight, 0), starts).astype(float)
    of_negative = np.add.reduceat(np.where(positive, 0, weight), starts).astype(float)
    below = np.cumsum(of_negative) - of_negative
    pairs = of_positive.sum() * of_negative.sum()
    return float((of_positive * (below + of_negative / 2)).sum() / pairs) if pairs else float("nan")


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of the draws of a difference."""
    low, high = np.nanquantile(differences, [0.025, 0.975])
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """Return the two-sided p-value of a difference of 0, from the share of draws on each side; never below 2 / draws."""
    drawn = differences[~np.isnan(differences)]
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p-values after Holm's step-down correction for as many claims as there are.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    ranked: Sequence[str] = sorted(p_values, key=lambda name: p_values[name])
    corrected = np.maximum.accumulate([p_values[name] * (len(ranked) - rank) for rank, name in enumerate(ranked)])
    return {name: float(min(1.0, value)) for name, value in zip(ranked, corrected)}
