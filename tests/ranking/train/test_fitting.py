"""fit: any iterable of batches trains a model in place, without files."""

from dataclasses import replace

import pytest
import torch

from qarm_features.ranking import RankingBatch, RankingModel, RowsInMemory, TrainingOptions, evaluate, fit
from qarm_features.ranking.data.item_counts import count_items
from qarm_features.ranking.train.optimizer import tables_of_items
from tests.ranking.ranking_rows import CONFIG, SWITCHES, item_features

OPTIONS = TrainingOptions(epochs=4, batch_size=64, learning_rate=1e-2, num_threads=1)


def rows_of_tastes(*, seed: int, num_rows: int = 1200) -> RankingBatch:
    """Users like the items 1 to 4 or 5 to 9, whichever their behaviors are of; impressions say the same."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high, *shape):
        return torch.randint(0, high, shape, generator=generator)

    taste, item = draw(2, num_rows), 1 + draw(9, num_rows)
    behavior = 1 + draw(4, num_rows, 3) + 4 * taste.unsqueeze(1)
    impression = 1 + draw(9, num_rows, 4)
    liked = (item > 4).long() == taste
    codes = torch.tensor([[-1, -1], *[[0, 1]] * 4, *[[1, 0]] * 5])
    return RankingBatch(
        item_index=item,
        item_codes=codes[item],
        behavior_index=behavior,
        behavior_codes=codes[behavior],
        behavior_mask=torch.ones(num_rows, 3, dtype=torch.bool),
        label=liked.float(),
        user_group=draw(30, num_rows),
        behavior_age=torch.ones(num_rows, 3),
        impression_index=impression,
        impression_codes=codes[impression],
        impression_label=((impression > 4).long() == taste.unsqueeze(1)).long(),
        impression_age=torch.ones(num_rows, 4),
        impression_mask=torch.ones(num_rows, 4, dtype=torch.bool),
        counters=torch.ones(num_rows, 4),
    )


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_each_switch_alone_trains(switches):
    torch.manual_seed(0)
    model = RankingModel(**CONFIG | switches)
    model.set_item_features(item_features())
    train = RowsInMemory(rows_of_tastes(seed=0), batch_size=64, shuffle=True)
    valid = RowsInMemory(rows_of_tastes(seed=1), batch_size=500)

    fitted = fit(model, train, valid, OPTIONS)

    assert fitted.valid["auc"] > 0.9
    assert evaluate(model, valid)["auc"] == fitted.valid["auc"]
    assert model.train_impressions.sum() == 1200


@pytest.mark.parametrize("name", ["item IDs", "nearest items, shared", "content-ID loss", "all"])
def test_sparse_updates_of_item_ids_train_as_well(name):
    torch.manual_seed(0)
    model = RankingModel(**CONFIG | SWITCHES[name])
    model.set_item_features(item_features())
    train = RowsInMemory(rows_of_tastes(seed=0), batch_size=64, shuffle=True)
    valid = RowsInMemory(rows_of_tastes(seed=1), batch_size=500)

    fitted = fit(model, train, valid, replace(OPTIONS, sparse_ids=True))

    assert fitted.valid["auc"] > 0.9
    assert not any(table.sparse for table in tables_of_items(model))


def test_sparse_updates_leave_rows_of_other_items_as_they_are():
    model = RankingModel(**CONFIG | SWITCHES["item IDs"] | {"num_items": 12})
    before = model.items.item_ids.weight.detach().clone()
    rows = RowsInMemory(rows_of_tastes(seed=0), batch_size=64)

    fit(model, rows, rows, replace(OPTIONS, sparse_ids=True))

    is_equal = (model.items.item_ids.weight == before).all(dim=1).tolist()
    assert is_equal == [True, *[False] * 9, *[True] * 3]  # items 1 to 9 are in the rows


def test_the_order_of_an_epoch_is_its_own_and_comes_again():
    rows = RowsInMemory(rows_of_tastes(seed=0, num_rows=10), batch_size=4, shuffle=True, seed=3)

    def order(epoch):
        rows.set_epoch(epoch)
        return torch.cat([batch.user_group for batch in rows]).tolist()

    first, second = order(0), order(1)

    assert sorted(first) == sorted(second) == sorted(rows.rows.user_group.tolist())
    assert order(0) == first != second
    assert len(rows) == 3


def test_items_are_counted_by_label_and_those_beyond_the_vocabulary_as_unknown():
    rows = rows_of_tastes(seed=0, num_rows=3)._replace(
        item_index=torch.tensor([2, 2, 7]), label=torch.tensor([1.0, 0.0, 1.0])
    )

    counts = count_items([rows], num_items=3)

    assert counts.positives.tolist() == [1, 0, 1, 0]
    assert counts.impressions.tolist() == [1, 0, 2, 0]


def test_an_iterable_that_is_used_up_is_refused():
    train = iter([rows_of_tastes(seed=0, num_rows=8)])

    with pytest.raises(
        ValueError, match="train_batches hold 0 rows, must hold at least 1. Give an iterable that can be"
    ):
        fit(RankingModel(**CONFIG), train, [rows_of_tastes(seed=1, num_rows=8)], OPTIONS)


def test_batches_of_no_row_are_refused():
    with pytest.raises(ValueError, match="batch_size is 0, must be at least 1"):
        RowsInMemory(rows_of_tastes(seed=0, num_rows=8), batch_size=0)


def test_only_matrices_decay_not_tables_scales_or_linear_parts_of_numbers():
    model = RankingModel(**CONFIG | SWITCHES["all"])
    model.set_item_features(item_features())
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    rows = rows_of_tastes(seed=0, num_rows=64)

    fit(model, [rows], [rows], TrainingOptions(epochs=1, learning_rate=1e-9, weight_decay=1e8, num_threads=1))

    shrunk = {
        name
        for name, weight in model.named_parameters()
        if before[name].any() and weight.norm() < 0.95 * before[name].norm()
    }
    assert {"mlp.1.weight", "items.vector.weight", "history.interest.query.lora_a"} <= shrunk
    tables = {"items.item_ids.weight", "items.prefixes.tables.0.weight", "items.semantic_ids.table.weight"}
    numbers = {"history.content_match.log_sharpness", "history.counters.wide.weight", "mlp.1.bias"}
    assert not shrunk & (tables | numbers)
