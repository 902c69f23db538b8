"""The target's positive rate among the training rows, without the row itself."""

from __future__ import annotations

import math

import pytest
import torch

from qarm_features.ranking.modules.item_rates import item_rate_features

POSITIVES = torch.tensor([0, 3, 0])
IMPRESSIONS = torch.tensor([0, 4, 1])
RATE = torch.tensor(0.5)


def logit(rate: float) -> float:
    return math.log(rate / (1 - rate))


def test_rates_are_smoothed_and_compared_with_the_mean_rate():
    features = item_rate_features(torch.tensor([1, 2]), POSITIVES, IMPRESSIONS, RATE, smoothing=2.0)

    assert features[:, 0].tolist() == pytest.approx([logit(4 / 6), logit(1 / 3)])
    assert features[:, 1].tolist() == pytest.approx([math.log(5) / 3, math.log(2) / 3])


def test_a_training_row_is_left_out_of_its_own_rate():
    own = torch.tensor([1.0, 0.0])

    features = item_rate_features(torch.tensor([1, 2]), POSITIVES, IMPRESSIONS, RATE, own_label=own, smoothing=2.0)

    assert features[:, 0].tolist() == pytest.approx([logit(3 / 5), logit(1 / 2)])


def test_unknown_and_new_items_say_nothing():
    features = item_rate_features(torch.tensor([0, 7]), POSITIVES, IMPRESSIONS, RATE, own_label=torch.ones(2))

    assert features.tolist() == [[0.0, 0.0], [0.0, 0.0]]
