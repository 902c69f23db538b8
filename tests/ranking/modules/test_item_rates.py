"""The target's positive rate among the training rows, without the row itself."""

from __future__ import annotations

import math

import pytest
import torch

from qarm_features.ranking.modules.item_rates import ItemRates, item_rate_features
from qarm_features.ranking.modules.ranking_input import ItemCounts, Rows
from tests.ranking.ranking_rows import random_rows

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


def test_rates_before_the_row_come_from_the_counters_of_the_batch_in_training_and_in_serving():
    batch = random_rows()  # the item has the positives of column 2 and the impressions of column 3
    rows = Rows(
        batch, torch.zeros(4, 1), [], ItemCounts(POSITIVES, IMPRESSIONS, RATE), represent=lambda *_: batch.label
    )
    reading = ItemRates(before_row=True)

    of_train, of_serving = (reading.train(mode).read(rows) for mode in (True, False))

    liked, shown = batch.counters[:, 2].tolist(), batch.counters[:, 3].tolist()
    assert of_train[:, 0].tolist() == pytest.approx([logit((a + 2.5) / (b + 5)) for a, b in zip(liked, shown)])
    assert of_train[:, 1].tolist() == pytest.approx([math.log(1 + count) / 3 for count in shown])
    assert torch.equal(of_train, of_serving)
    assert reading.needs == {"counters"}
