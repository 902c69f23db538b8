"""The gradient of the Content-ID-Contrastive loss on item IDs is told beside that of the log loss."""

import logging

import pytest
import torch

from qarm_features.ranking import RankingModel, RowsInMemory, TrainingOptions, fit
from qarm_features.ranking.train.loss_balance import id_gradient_ratio
from tests.ranking.ranking_rows import CONFIG, SWITCHES, item_features, random_rows
from tests.ranking.train.test_fitting import rows_of_tastes


def model_of(**changes) -> RankingModel:
    torch.manual_seed(0)
    model = RankingModel(**CONFIG | SWITCHES["content-ID loss"] | changes)
    model.set_item_features(item_features())
    return model


def test_it_is_the_ratio_of_two_gradients_and_changes_nothing():
    model, batch = model_of(), random_rows()
    table = model.items.item_ids.weight
    losses = model.losses(batch)
    norms = [
        torch.autograd.grad(loss, [table], retain_graph=True)[0].norm() for loss in (losses.content_id, losses.log_loss)
    ]
    before, random = [weight.clone() for weight in model.parameters()], torch.random.get_rng_state()

    ratio = id_gradient_ratio(model, batch)

    assert ratio == pytest.approx(float(0.5 * norms[0] / norms[1]))
    assert all(torch.equal(old, new) and new.grad is None for old, new in zip(before, model.parameters()))
    assert torch.equal(random, torch.random.get_rng_state())


def test_a_loss_that_does_not_train_item_ids_has_the_ratio_0():
    assert id_gradient_ratio(model_of(content_id_stop_gradient="item_id"), random_rows()) == 0


@pytest.mark.parametrize(("weight", "warnings"), [(50.0, 1), (1e-6, 0)])
def test_training_tells_it_once_per_epoch_and_warns_once_where_it_is_above_1(caplog, weight, warnings):
    rows = RowsInMemory(rows_of_tastes(seed=0, num_rows=300), batch_size=100)
    model = model_of(content_id_weight=weight, content_id_dim=4, new_items_from_content=False)

    with caplog.at_level(logging.INFO):
        fitted = fit(model, rows, rows, TrainingOptions(epochs=2, num_threads=1))

    told = [
        record.getMessage()
        for record in caplog.records
        if "Content-ID-Contrastive loss on the item IDs is" in record.getMessage()
    ]
    assert len(told) == 2
    assert told[0].startswith("epoch 0: the gradient of the Content-ID-Contrastive loss on the item IDs is ")
    assert [(epoch["content_id_gradient_ratio"] > 1) for epoch in fitted.epochs] == [weight > 1] * 2
    assert (
        sum("WARNING: the Content-ID-Contrastive loss moves" in record.getMessage() for record in caplog.records)
        == warnings
    )


@pytest.mark.parametrize(
    ("switches", "warnings"),
    [
        ({"content_id_weight": 0.0}, 1),
        ({"content_id_dim": 4}, 1),
        ({"content_id_dim": 4, "id_dropout": 0.1}, 0),
        ({}, 0),
    ],
)
def test_training_warns_where_nothing_trains_the_map_from_content_to_the_ids_of_new_items(caplog, switches, warnings):
    rows = RowsInMemory(rows_of_tastes(seed=0, num_rows=100), batch_size=100)

    with caplog.at_level(logging.INFO):
        fit(model_of(**switches), rows, rows, TrainingOptions(epochs=1, num_threads=1))

    assert sum("by a map that no loss trains" in record.getMessage() for record in caplog.records) == warnings


def test_measuring_it_does_not_change_what_is_trained(monkeypatch):
    rows = RowsInMemory(rows_of_tastes(seed=0, num_rows=300), batch_size=100)

    def trained() -> RankingModel:
        model = model_of(content_id_negatives=3, id_dropout=0.5, dropout=0.5)
        fit(model, rows, rows, TrainingOptions(epochs=1, num_threads=1))
        return model

    with_figure = trained()
    monkeypatch.setattr("qarm_features.ranking.train.fitting.id_gradient_ratio", lambda model, batch: 0.0)
    without = trained()

    for one, other in zip(with_figure.parameters(), without.parameters()):
        assert torch.equal(one, other)
