"""Logits in, calibrated logits out: Platt scaling fitted on rows that training did not see, and how far off it is.

Source: Guo et al., arXiv 1706.04599: expected calibration error, section 3; temperature and Platt scaling, section 4.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

_STEPS, _RIDGE = 50, 1e-9


@dataclass(frozen=True)
class Calibration:
    """The map logit -> slope * logit + intercept; the order of the rows stays, because slope is above 0.

    Args:
        slope: above 0; the inverse of the temperature.
        intercept: in log-odds; 0 for temperature scaling.

    Raises:
        ValueError: if slope is not above 0 or a number is not finite.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not (self.slope > 0 and np.isfinite([self.slope, self.intercept]).all()):
            raise ValueError(
                f"slope is {self.slope} and intercept {self.intercept}, must be finite and slope above 0. "
                "The logits do not rise with the labels: do not calibrate such a model."
            )

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Returns calibrated logits; takes an array or a tensor."""
        return self.slope * logits + self.intercept

    def save(self, file: str | Path) -> None:
        """Writes slope and intercept as JSON."""
        Path(file).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, file: str | Path) -> "Calibration":
        """Reads what :meth:`save` wrote."""
        return cls(**json.loads(Path(file).read_text()))


def fit_calibration(
    labels: np.ndarray, logits: np.ndarray, *, method: Literal["platt", "temperature"] = "platt"
) -> Calibration:
    """Fits by Newton's method the map of least log loss.

    Args:
        labels: (B,) 0 or 1, both present.
        logits: (B,) log-odds.
        method: "platt" fits slope and intercept, "temperature" the slope alone.

    Raises:
        ValueError: if method is unknown, or the best slope is not above 0.

    Source: Guo et al., arXiv 1706.04599, section 4.
    """
    if method not in ("platt", "temperature"):
        raise ValueError(f'method is "{method}", must be "platt" or "temperature".')
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    inputs = np.stack([logits, np.ones_like(logits)][: 2 if method == "platt" else 1], axis=1)
    weights = np.array([1.0, 0.0])[: inputs.shape[1]]
    for _ in range(_STEPS):
        chance = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (chance - labels) / len(labels)
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs / len(labels)
        step = np.linalg.solve(curvature + _RIDGE * np.eye(len(weights)), gradient)
        weights = weights - step / max(1.0, np.abs(step).max())  # never far at once: a saturated start has no curvature
        if np.abs(step).max() < 1e-10:
            break
    return Calibration(*map(float, weights))


def expected_calibration_error(labels: np.ndarray, logits: np.ndarray, *, num_bins: int = 15) -> float:
    """Returns the mean distance between predicted chance and share of positives, in [0, 1]; NaN if there are no rows.

    Bins hold equally many rows, in the order of the logits, and are weighted by their rows.

    Args:
        labels: (B,) 0 or 1.
        logits: (B,) log-odds.
        num_bins: at least 1.

    Source: Guo et al., arXiv 1706.04599, equation 3, which has bins of equal width.
    """
    if len(labels) == 0:
        return float("nan")
    order = np.argsort(logits, kind="stable")
    off = (_sigmoid(np.asarray(logits, np.float64)) - np.asarray(labels, np.float64))[order]
    bins = np.array_split(off, min(num_bins, len(off)))
    return float(sum(abs(part.sum()) for part in bins) / len(off))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits))
