"""The table of baselines and models, the differences between rows, and what must be known to read them.

In: scores of baselines, finished runs. Out: printed lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ranking_completejourney.intervals import DRAWS, Interval, RedrawnHouseholds, holm, of_runs
from ranking_completejourney.slices import SLICES
from ranking_completejourney.training import auc_of
from ranking_completejourney.variants import CLAIMS, Claim, Run

CAUTIONS = """What must be known to read these figures:
- An exposure is inferred: a household that shopped in a store in a week is taken to have met what that store promoted in
  that week. Negatives are drawn among these products, in proportion to their earlier buyers.
- The package that the data come from calls them simulated from real patterns.
- Histories and counts are cut before the week of a row, so that no row sees its own visit.
- Every model reads how often the household bought the product and its type before, and the product's rate and number of
  train rows. That number tells how negatives were drawn, so that only the regression with it is a baseline of models."""


class Report:
    """Measures scores of the test rows.

    Args:
        label: (N,) 0 or 1.
        households: (N,) household of each row.
        slices: Rows (N,) bool of each slice.
    """

    def __init__(self, label: np.ndarray, households: np.ndarray, slices: Mapping[str, np.ndarray]) -> None:
        self.label, self.slices = label, slices
        self.redrawn = RedrawnHouseholds(households)
        self._drawn: dict[tuple[str, str], np.ndarray] = {}

    def aucs(self, score: np.ndarray) -> dict[str, float | None]:
        """Return the AUC of each slice."""
        return {name: auc_of(self.label, score, rows) for name, rows in self.slices.items()}

    def show_slices(self) -> None:
        """Print the size of each slice."""
        shares = ", ".join(f"{name} {rows.mean():.1%}" for name, rows in self.slices.items())
        print(f"test: {len(self.label):,} rows, {self.label.mean():.1%} positive; {shares}")

    def show_header(self) -> None:
        """Print the names of the columns."""
        print(f"{'AUC, test':50}" + "".join(f"{name:>16}" for name in SLICES))

    def show_row(self, name: str, measured: Sequence[Mapping[str, float | None]]) -> None:
        """Print one row: the mean of its runs, and their deviation where there are several."""
        print(f"{name:50}" + "".join(_cell([run[slice_] for run in measured]) for slice_ in SLICES), flush=True)

    def show_claims(self, found: Mapping[str, Sequence[tuple[Run, Mapping[str, Any]]]]) -> None:
        """Print each claim whose two rows are there, with an interval and a p-value after Holm's correction."""
        claims = [claim for claim in CLAIMS if claim.row in found and claim.against in found]
        differences = {claim.name: self._difference(claim, found) for claim in claims}
        corrected = holm({name: reach.p for name, (_, reach, _) in differences.items()})
        print(
            f"\nDifferences of AUC within runs of one seed, 95% by {DRAWS:,} redraws of the households and by the "
            "deviation of independent runs, where there are several; p after Holm:"
        )
        for name, (points, reach, pairs) in differences.items():
            deviation = f"±{points.std(ddof=1):.4f}" if len(points) > 1 else ""
            print(
                f"{name:70} {points.mean():+.4f}{deviation}  [{reach.low:+.4f}, {reach.high:+.4f}]  p {corrected[name]:.3f}  "
                f"({pairs} pairs of runs, {len(points)} independent)"
            )

    def _difference(self, claim: Claim, found: Mapping[str, Sequence]) -> tuple[np.ndarray, Interval, int]:
        """Return the difference of each independent pair of runs, its interval, and the number of pairs."""
        pairs = paired(found[claim.row], found[claim.against])
        points = np.array([a["test"][claim.where] - b["test"][claim.where] for (_, a), (_, b) in pairs])
        draws = np.stack([self._draws(*a, claim.where) - self._draws(*b, claim.where) for a, b in pairs])
        group = independent([(a, b) for (a, _), (b, _) in pairs])
        groups = [group == one for one in np.unique(group)]
        means = np.array([points[rows].mean() for rows in groups])
        return means, of_runs(means, np.mean([draws[rows].mean(axis=0) for rows in groups], axis=0)), len(pairs)

    def _draws(self, run: Run, figures: Mapping[str, Any], where: str) -> np.ndarray:
        key = (run.name, where)
        if key not in self._drawn:
            self._drawn[key] = self.redrawn.aucs(self.label, figures["logit"], self.slices[where])
        return self._drawn[key]


def paired(runs: Sequence[tuple[Run, Any]], others: Sequence[tuple[Run, Any]]) -> list[tuple]:
    """Pair the runs of two rows that have the same seed, and the same encoder and codebook where both have one."""

    def agree(run: Run, other: Run) -> bool:
        return all(a is None or b is None or a == b for a, b in zip(run[1:], other[1:]))

    return [(one, other) for one in runs for other in others if agree(one[0], other[0])]


def independent(pairs: Sequence[tuple[Run, Run]]) -> np.ndarray:
    """Return (P,) int, equal for pairs of runs that are not independent: those of one encoder, or else of one codebook.

    Encoders move all that is fitted after them. Where the pairs have one encoder, codebooks count, and then the seeds.
    """
    for part in ("encoder", "codebook", "seed"):
        both = [(getattr(one, part), getattr(other, part)) for one, other in pairs]
        values = [own if own is not None else others for own, others in both]  # None throughout if neither row has it
        if len(set(values)) > 1:
            return np.unique(values, return_inverse=True)[1]
    return np.zeros(len(pairs), int)


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return f"{'-':>16}"
    spread = f"±{np.std(known, ddof=1):.4f}" if len(known) > 1 else ""
    return f"{np.mean(known):.4f}{spread}".rjust(16)
