"""The gain of a row is the mean of its seeds, and not that of their ensemble."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ranking_ml1m.measures import gain_over

from qarm_features.ranking.train.metrics import area_under_roc

ROWS, USERS = 3000, 150


@pytest.fixture(scope="module")
def drawn():
    """Return labels and users as rows, three noisy models of the labels, and one of more noise."""
    random = np.random.default_rng(0)
    label = random.integers(0, 2, ROWS).astype(np.float32)
    rows = SimpleNamespace(label=torch.from_numpy(label), user_group=torch.from_numpy(random.integers(0, USERS, ROWS)))
    return rows, [label + 3 * random.normal(size=ROWS) for _ in range(3)], label + 6 * random.normal(size=ROWS)


def test_aucs_are_averaged_and_not_logits(drawn):
    rows, seeds, other = drawn
    label = rows.label.numpy()

    gain = gain_over(seeds, [other], rows)

    mean = np.mean([area_under_roc(label, logit) for logit in seeds]) - area_under_roc(label, other)
    ensemble = area_under_roc(label, np.mean(seeds, axis=0)) - area_under_roc(label, other)
    assert gain.auc == pytest.approx(mean)
    assert gain.auc < ensemble - 0.03  # what the mean of logits would have claimed
    assert gain.low < gain.auc < gain.high
    assert gain.p < 0.01


def test_a_model_has_no_gain_over_itself(drawn):
    rows, seeds, _ = drawn

    gain = gain_over(seeds, seeds, rows)

    assert (gain.auc, gain.low, gain.high) == (0, 0, 0)
