"""The view loss gives two augmentations of an item similar embeddings."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from qarm_features.alignment import AlignmentOptions, align
from qarm_features.alignment.held_out import mean_cosine
from qarm_features.alignment.item_content import ItemContent
from qarm_features.alignment.packing import packed
from qarm_features.alignment.steps import add_gradients, learning_weights, view_loss
from qarm_features.alignment.training_data import TrainingData
from qarm_features.torch_processes import ALONE
from tests.alignment.planted_pairs import planted_encoder

NO_ANCHORS = np.zeros(0, np.int64)


def test_views_of_an_item_must_find_each_other():
    first, second = (
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
        torch.tensor([[0.6, 0.8], [0.0, 1.0], [1.0, 0.0]]),
    )

    loss = float(view_loss(first, second, torch.zeros(())))

    by_first = [np.log(np.exp([0.6, 0.0]).sum()) - 0.6, np.log(np.exp([0.8, 1.0]).sum()) - 1.0]
    by_second = [np.log(np.exp([0.6, 0.8]).sum()) - 0.6, np.log(np.exp([0.0, 1.0]).sum()) - 1.0]
    assert loss == pytest.approx(np.mean(by_first + by_second), abs=1e-6)  # the rejected third is left out


def test_the_views_add_to_the_loss_of_a_batch(planted_source):
    data, encoder = TrainingData(packed(planted_source), batch_size=32), planted_encoder()
    batch = next(iter(data.batches(0)))
    content = ItemContent(encoder, data.items, cache_bytes=10**8)

    def loss(**options) -> float:
        weights = learning_weights(encoder, 0.07, torch.device("cpu"))
        given = {"data": data, "options": AlignmentOptions(batch_size=32, **options), "processes": ALONE}
        return add_gradients(content, batch, NO_ANCHORS, weights, **given)

    encoder.eval()  # no dropout: both views of an item are equal, but those of other items are negatives
    items = content.encode(np.unique(np.concatenate([batch.trigger_index, batch.target_index]))).detach()
    added = loss(view_weight=0.5, num_views=10**6) - loss()

    assert added == pytest.approx(0.5 * float(view_loss(items, items, torch.tensor(0.07).log())), rel=1e-4)


def test_an_encoder_that_makes_all_items_equal_is_told_of(planted_source, tmp_path, caplog):
    encoder = planted_encoder()
    for weight in encoder.q_former.parameters():
        nn.init.zeros_(weight)
    nn.init.ones_(list(encoder.q_former.parameters())[-1])  # the output is a constant

    with caplog.at_level(logging.WARNING, "qarm_features.alignment"):
        align(encoder, planted_source, tmp_path, options=AlignmentOptions(epochs=1, learning_rate=1e-9, num_threads=1))

    assert "Set alignment.view_weight: 1" in caplog.text
    assert mean_cosine(torch.eye(4)) == pytest.approx(0.25)
    assert mean_cosine(torch.zeros(3, 2)) == 0
