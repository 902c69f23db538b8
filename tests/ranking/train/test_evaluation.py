"""Slices of the metrics: the rows of head, torso and tail items, of new items and of new users."""

import json

import numpy as np
import torch

from qarm_features.ranking import Calibration, Predictions, RankingModel, measure
from qarm_features.ranking.train.evaluation import slices

ITEM = np.array([1, 1, 2, 3, 4, 0])
PREDICTIONS = Predictions(
    label=np.array([1, 0, 1, 0, 1, 0], np.float32),
    logit=np.array([2, 1, 1, 2, 0, 0], np.float32),
    user_group=np.array([0, 0, 0, 1, 1, 1]),
    item_index=ITEM,
    num_behaviors=np.array([0, 5, 6, 50, 50, 50]),
)


def model() -> RankingModel:
    """Item 1 has half of the 120 training rows, item 2 a third, item 3 a sixth, and item 4 none."""
    model = RankingModel(num_items=4, use_semantic_ids=False)
    model.set_item_counts(torch.tensor([9, 30, 6, 5, 0]), torch.tensor([99, 60, 40, 20, 0]))
    return model


def test_each_row_is_of_the_part_in_which_its_item_starts():
    found = {name: np.flatnonzero(rows).tolist() for name, rows in slices(PREDICTIONS, model()).items()}

    assert found == {
        "head": [0, 1],
        "torso": [2],
        "tail": [3],
        "few_click_items": [3],
        "new_items": [4, 5],
        "new_users": [0, 1],
    }


def test_slices_are_measured_like_the_whole():
    measured = measure(PREDICTIONS, model(), calibration=Calibration(slope=0.5))

    assert measured["slices"]["head"]["auc"] == 1.0
    assert measured["slices"]["torso"]["auc"] is None  # one label
    assert measured["slices"]["new_users"]["rows"] == 2
    assert measured["auc"] == 0.5  # of nine pairs three are right, three tied
    assert measured["calibrated"]["log_loss"] < measured["log_loss"]


def test_intervals_are_measured_where_they_are_asked_for():
    rng = np.random.default_rng(0)
    label, user, zeros = np.tile([0.0, 1.0], 100), np.repeat(np.arange(20), 10), np.zeros(200, np.int64)
    predictions = Predictions(label, label + rng.normal(size=200), user, zeros, zeros)

    measured, plain = measure(predictions, with_intervals=True), measure(predictions)

    low, high = measured["interval"]["auc"]
    assert low < measured["auc"] < high
    assert len(measured["resampled"]["auc"]) == 1000
    assert not {"interval", "resampled"} & plain.keys()
    json.dumps(measured, allow_nan=False)


def test_one_user_leaves_the_intervals_out():
    zeros = np.zeros(2, np.int64)

    measured = measure(
        Predictions(np.array([0.0, 1.0]), np.array([0.0, 1.0]), zeros, zeros, zeros), with_intervals=True
    )

    assert (measured["interval"], measured["resampled"]) == ({"auc": None, "user_auc": None}, None)
