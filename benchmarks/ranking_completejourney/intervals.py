"""Intervals of differences between models, and the correction for several claims.

In: scores of the same rows from runs of two models. Out: their AUCs under redrawn households, an interval, a p-value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

DRAWS = 10_000  # fewer cannot tell 30 claims apart from chance after the correction
_AT_ONCE = 1_000  # draws whose products are in memory together


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
        place, positive, size = self._place[where], label[where] > 0, self._times.shape[1]
        above = pairs_in_order(place, positive, score[where], size)
        positives, negatives = (np.bincount(place[of], minlength=size) for of in (positive, ~positive))
        found = np.empty(len(self._times))
        for start in range(0, len(found), _AT_ONCE):
            times = self._times[start : start + _AT_ONCE].astype(np.float64)
            pairs = (times @ positives) * (times @ negatives)
            in_order = np.einsum("dh,dh->d", times @ above, times)
            found[start : start + _AT_ONCE] = np.divide(
                in_order, pairs, out=np.full(len(times), np.nan), where=pairs > 0
            )
        return found


def pairs_in_order(household: np.ndarray, positive: np.ndarray, score: np.ndarray, size: int) -> np.ndarray:
    """Return for each two households how many positives of the first have a higher score than negatives of the second.

    A draw that takes household h ``t[h]`` times then has ``t @ result @ t`` pairs in order, so that no draw looks at rows.

    Args:
        household: (N,) int, below ``size``.
        positive: (N,) bool.
        score: (N,) scores; equal ones count one half.
        size: H, the number of households.

    Returns:
        (H, H) float64.
    """
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))  # of runs of equal scores
    found, below = np.zeros((size, size)), np.zeros(size)
    for run in np.split(order, starts[1:]):
        of_positives, of_negatives = household[run[positive[run]]], household[run[~positive[run]]]
        if len(run) == 1:
            if len(of_positives):
                found[of_positives[0]] += below
            else:
                below[of_negatives[0]] += 1
            continue
        here = np.bincount(of_negatives, minlength=size)
        middle = below + here / 2
        for one in of_positives:
            found[one] += middle
        below += here
    return found


class Interval(NamedTuple):
    """The 95% interval of a difference, and the two-sided p-value of a difference of 0."""

    low: float
    high: float
    p: float


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of the draws of a difference."""
    low, high = np.nanquantile(differences, [0.025, 0.975])
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """Return the two-sided p-value of a difference of 0, from the share of draws on each side; never below 2 / draws."""
    drawn = differences[~np.isnan(differences)]
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1)))


def of_runs(differences: np.ndarray, draws: np.ndarray) -> Interval:
    """Return an interval that other households *and* other runs would move.

    Redrawn households say nothing of another seed, encoder or codebook. The error of the mean has both parts, whose squares
    are added; Student's t has the degrees of freedom of Welch and Satterthwaite, with one less than R for the runs. One run
    says nothing of others: its interval is that of the households alone.

    Args:
        differences: (R,) difference of each independent run.
        draws: (D,) mean difference of the runs under each draw of households.
    """
    if len(differences) == 1 or not np.any(differences):
        return Interval(*interval(draws), p_value(draws))
    households, runs = float(np.nanvar(draws)), float(np.var(differences, ddof=1)) / len(differences)
    freedom = np.inf if runs == 0 else (households + runs) ** 2 / (runs**2 / (len(differences) - 1))
    mean, error = float(np.mean(differences)), np.sqrt(households + runs)
    reach = stats.t.ppf(0.975, freedom) * error
    return Interval(mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, freedom)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p-values after Holm's step-down correction for as many claims as there are.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    ranked: Sequence[str] = sorted(p_values, key=lambda name: p_values[name])
    corrected = np.maximum.accumulate([p_values[name] * (len(ranked) - rank) for rank, name in enumerate(ranked)])
    return {name: float(min(1.0, value)) for name, value in zip(ranked, corrected)}
