"""The figures of the explorer compare only what can be compared, and carry the intervals that were measured."""

from __future__ import annotations

import numpy as np
import pytest

from qarm_features.explorer.computing.figures import figures
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.storage.artifacts import Artifacts

RELEASE = Release(codebook_version=2, encoder_version=1, num_levels=1, codebook_size=4, delta_version=0, rows=10)


def write_nothing_much(folder):
    (folder / "file.txt").write_text("x")


@pytest.fixture
def artifacts(tmp_path):
    """Codebooks 0 over encoder 0; codebooks 1 and 2 over encoder 1; two ranking models on codebooks 2."""
    codebooks = Artifacts(tmp_path, "codebooks")
    for encoder, error in ((0, 0.2), (1, 0.4), (1, 0.3)):
        levels = [{"level": 0, "relative_error": error}]
        about = {"encoder_version": encoder, "encoder_fingerprint": f"of {encoder}", "levels": levels}
        codebooks.publish(write_nothing_much, **about)
    models = Artifacts(tmp_path, "ranking_models")
    for variant, auc in (("item IDs", 0.70), ("with codes", 0.72)):
        resampled = {"auc": np.linspace(auc - 0.01, auc + 0.01, 101).tolist(), "drawn_from": "the same users"}
        test = {"auc": auc, "user_auc": auc - 0.1, "log_loss": 0.5, "resampled": resampled}
        models.publish(write_nothing_much, codebook_version=2, variant=variant, seed=0, metrics={"test": test})
    return tmp_path


def test_the_error_of_codes_is_compared_with_codebooks_over_the_same_encoder_alone(artifacts):
    found = {figure["name"]: figure for figure in figures(artifacts, RELEASE)}

    error = found["relative error after level 1"]
    assert (error["value"], error["history"]) == (0.3, [("codebooks v1", 0.4)])


def test_an_auc_has_its_interval_and_a_difference_the_interval_of_the_same_users(artifacts):
    found = {figure["name"]: figure for figure in figures(artifacts, RELEASE)}

    auc = found["test AUC, with codes"]
    assert (auc["low"], auc["high"]) == pytest.approx((0.7105, 0.7295))
    difference = found["test AUC, with codes minus item IDs"]
    bounds = difference["value"], difference["low"], difference["high"]
    assert bounds == pytest.approx((0.02, 0.02, 0.02))
    assert "test AUC, item IDs minus item IDs" not in found


def test_log_loss_is_the_mean_over_seeds_and_lower_is_better(artifacts):
    loss = next(figure for figure in figures(artifacts, RELEASE) if figure["name"] == "test log loss, with codes")

    assert (loss["value"], loss["higher_is_better"]) == (0.5, False)
