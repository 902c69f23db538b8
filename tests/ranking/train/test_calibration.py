"""Calibration: logits become chances that match the shares of positives."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from qarm_features.ranking import Calibration, expected_calibration_error, fit_calibration


def overconfident(rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels whose log-odds are 0.5 * logit - 1."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, rows)
    return (generator.random(rows) < 1 / (1 + np.exp(1 - 0.5 * logits))).astype(np.float32), logits


def test_platt_scaling_is_an_unpenalized_logistic_regression():
    labels, logits = overconfident()

    fitted = fit_calibration(labels, logits)

    peer = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], labels)
    assert (fitted.slope, fitted.intercept) == pytest.approx((peer.coef_[0, 0], peer.intercept_[0]), abs=1e-4)


def test_temperature_scaling_has_no_intercept():
    labels, logits = overconfident()

    fitted = fit_calibration(labels, logits, method="temperature")

    peer = LogisticRegression(C=np.inf, tol=1e-10, fit_intercept=False).fit(logits[:, None], labels)
    assert (fitted.slope, fitted.intercept) == (pytest.approx(peer.coef_[0, 0], abs=1e-4), 0.0)


def test_calibrated_logits_are_off_by_little():
    labels, logits = overconfident()
    before = expected_calibration_error(labels, logits)

    after = expected_calibration_error(labels, fit_calibration(labels, logits).apply(logits))

    assert after < 0.02 < 0.1 < before


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    # chances .5 .5 .5 .5 | 1 1: three of four positive, one of two: |.5 - .75| * 4/6 + |1 - .5| * 2/6
    logits = np.array([0.0, 0.0, 0.0, 100.0, 100.0, 100.0])
    labels = np.array([1, 1, 0, 1, 0, 1])

    error = expected_calibration_error(labels, logits, num_bins=2)

    assert error == pytest.approx((0.5 + 1.0) / 6)  # |3 * .5 - 2| and |3 - 2|, by six rows


def test_no_rows_have_no_error():
    assert np.isnan(expected_calibration_error(np.zeros(0), np.zeros(0)))


def test_it_is_saved_and_loaded(tmp_path):
    Calibration(slope=0.5, intercept=-1.0).save(tmp_path / "calibration.json")

    assert Calibration.load(tmp_path / "calibration.json").apply(np.array([2.0])).tolist() == [0.0]


def test_logits_that_fall_with_the_labels_are_refused():
    labels, logits = overconfident()

    with pytest.raises(ValueError, match="slope is -.*, must be finite and slope above 0. The logits do not rise"):
        fit_calibration(labels, -logits)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match='method is "isotonic", must be "platt" or "temperature"'):
        fit_calibration(np.zeros(2), np.zeros(2), method="isotonic")
