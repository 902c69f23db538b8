"""Calibration of logits by Platt scaling, and its error.

In: labels and logits of rows that training did not see. Out: a map from logits to calibrated logits.

Source: Guo et al., arXiv 1706.04599: expected calibration error, section 3; temperature and Platt scaling, section 4.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", "np.ndarray", "Tensor")
_STEPS, _RIDGE = 50, 1e-9


@dataclass(frozen=True)
class Calibration:
    """Maps a logit to slope * logit + intercept; the order of rows stays, because slope is above 0.

    Args:
        slope: Inverse of the temperature, above 0.
        intercept: Intercept in log-odds; 0 for temperature scaling.

    Raises:
        ValueError: If slope is not above 0 or a number is not finite.

    Example:
        >>> Calibration(slope=0.5, intercept=1.0).apply(np.array([-2.0, 4.0]))
        array([0., 3.])
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not (self.slope > 0 and np.isfinite([self.slope, self.intercept]).all()):
            raise ValueError(
                f"slope is {self.slope} and intercept {self.intercept}, must be finite and slope above 0. "
                "The logits do not rise with the labels. Do not calibrate such a model."
            )

    def apply(self, logits: Values) -> Values:
        """Returns calibrated logits.

        Args:
            logits: Array or tensor of any shape.
        """
        return self.slope * logits + self.intercept

    def save(self, file: str | Path) -> None:
        """Writes slope and intercept as JSON."""
        Path(file).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, file: str | Path) -> "Calibration":
        """Reads what ``save`` wrote."""
        return cls(**json.loads(Path(file).read_text()))


def fit_calibration(
    labels: np.ndarray, logits: np.ndarray, *, method: Literal["platt", "temperature"] = "platt"
) -> Calibration:
    """Fits the map with the smallest log loss by Newton's method.

    Args:
        labels: (B,) 0 or 1; both must occur.
        logits: (B,) log-odds.
        method: "platt" fits slope and intercept; "temperature" fits the slope alone.

    Raises:
        ValueError: If method is unknown, or the best slope is not above 0.

    Example:
        >>> calibration = fit_calibration(np.array([0, 1, 0, 1]), np.array([-1.0, 1.0, 1.0, -0.5]))
        >>> calibration.slope > 0
        True

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
        weights = weights - step / max(
            1.0, np.abs(step).max()
        )  # short steps, because a saturated start has no curvature
        if np.abs(step).max() < 1e-10:
            break
    return Calibration(*map(float, weights))


def expected_calibration_error(labels: np.ndarray, logits: np.ndarray, *, num_bins: int = 15) -> float:
    """Returns the mean distance between predicted chances and shares of positives, in [0, 1]; NaN without rows.

    Rows are sorted by logit and cut into bins of equally many rows. The mean is weighted by the rows of the bins.

    Args:
        labels: (B,) 0 or 1.
        logits: (B,) log-odds.
        num_bins: Number of bins, at least 1.

    Example:
        >>> expected_calibration_error(np.array([0, 1]), np.array([0.0, 0.0]), num_bins=1)
        0.0

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
