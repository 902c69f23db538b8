"""The optimizer: parts learn at rates of their own, and all rates rise during the warm-up."""

from types import SimpleNamespace

import pytest
import torch

from qarm_features.ranking import RankingModel, TrainingOptions
from qarm_features.ranking.train.optimizer import (
    optimizer_of,
    optimizers_of,
    sparse_optimizer_of,
    tables_of_items,
    updates_sparsely,
    warm_up,
)
from qarm_features.ranking.train.training_options import SPARSE_FROM
from tests.ranking.ranking_rows import CONFIG, SWITCHES


def rates_of(model: RankingModel, options: TrainingOptions) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by the name of the weight."""
    groups = optimizer_of(model, options).param_groups
    of_weight = {id(weight): (group["lr"], group["weight_decay"]) for group in groups for weight in group["params"]}
    return {name: of_weight[id(weight)] for name, weight in model.named_parameters() if id(weight) in of_weight}


def test_a_part_with_a_rate_of_its_own_has_it_and_the_others_have_that_of_all():
    model = RankingModel(**CONFIG | SWITCHES["content interest"])
    options = TrainingOptions(part_learning_rates={"fusion": 0.5, "content_match": 0.25}, weight_decay=3.0)

    rates = rates_of(model, options)

    assert {name for name, (rate, _) in rates.items() if rate == 0.5} == {
        name for name in rates if name.startswith("items.fusion.")
    }
    assert rates["items.fusion.q_former.head.weight"] == (0.5, 3.0)
    assert rates["items.fusion.q_former.head.bias"] == (0.5, 0.0)
    assert rates["items.item_ids.weight"] == (2e-3, 0.0)
    assert rates["history.interest.query.lora_a"] == (2e-3, 3.0)
    assert "history.interest.query.weight" not in rates  # frozen


def test_no_weight_is_left_out_or_taken_twice():
    model = RankingModel(**CONFIG | SWITCHES["all"])

    groups = optimizer_of(model, TrainingOptions(part_learning_rates={"fusion": 0.5})).param_groups

    taken = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(taken) == sorted(id(weight) for weight in model.parameters() if weight.requires_grad)


def test_rates_rise_linearly_over_the_warm_up_and_stay():
    model = RankingModel(**CONFIG | SWITCHES["fusion"])
    optimizer = optimizer_of(model, TrainingOptions(learning_rate=1.0, part_learning_rates={"fusion": 0.5}))
    schedule, seen = warm_up(optimizer, 4), []

    for _ in range(6):
        seen.append(sorted({group["lr"] for group in optimizer.param_groups}))
        optimizer.step()
        schedule.step()

    assert seen == [[0.125, 0.25], [0.25, 0.5], [0.375, 0.75], [0.5, 1.0], [0.5, 1.0], [0.5, 1.0]]


def test_without_a_warm_up_the_first_step_has_the_whole_rate():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)

    warm_up(optimizer, 0)

    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_part_that_no_model_has_is_refused_and_one_that_this_model_lacks_is_left_out():
    model = RankingModel(**CONFIG | SWITCHES["item IDs"])

    assert set(rates_of(model, TrainingOptions(part_learning_rates={"fusion": 0.5})).values()) == {
        (2e-3, 0.0),
        (2e-3, 1e-2),
    }
    with pytest.raises(
        ValueError, match="part_learning_rates names fussion, must be of attention, content_match, counters"
    ):
        optimizer_of(model, TrainingOptions(part_learning_rates={"fussion": 0.5}))


@pytest.mark.parametrize(("options", "message"), [
    ({"part_learning_rates": {"fusion": 0.0}}, "part_learning_rates of fusion is 0.0, must be above 0"),
    ({"warm_up_steps": -1}, "warm_up_steps is -1, must be at least 0"),
])  # fmt: skip
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)


def test_sparse_tables_have_an_optimizer_of_their_own_and_no_weight_is_left_out():
    model = RankingModel(**CONFIG | SWITCHES["all"] | {"num_items": 12})
    options = TrainingOptions(sparse_ids=True, part_learning_rates={"nearest_items": 0.5})

    groups = [group for optimizer in optimizers_of(model, options) for group in optimizer.param_groups]

    taken = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(taken) == sorted(id(weight) for weight in model.parameters() if weight.requires_grad)
    assert len(tables_of_items(model)) == 2  # of item IDs and of nearest items
    assert sparse_optimizer_of(RankingModel(**CONFIG | SWITCHES["all"] | {"num_items": 12}), options) is None


@pytest.mark.parametrize(("asked", "items", "processes", "expected"), [
    (None, SPARSE_FROM - 1, 1, False), (None, SPARSE_FROM, 1, True), (None, SPARSE_FROM, 2, False),
    (True, 10, 1, True), (False, SPARSE_FROM, 1, False),
])  # fmt: skip
def test_large_catalogs_are_updated_sparsely_by_one_process(asked, items, processes, expected):
    model = SimpleNamespace(config=SimpleNamespace(num_items=items))

    assert updates_sparsely(model, TrainingOptions(sparse_ids=asked), num_processes=processes) is expected


def test_several_processes_cannot_be_asked_for_sparse_updates():
    model = SimpleNamespace(config=SimpleNamespace(num_items=10))

    with pytest.raises(ValueError, match="sparse_ids is True, must be False or None where 2 processes train together"):
        updates_sparsely(model, TrainingOptions(sparse_ids=True), num_processes=2)


def test_a_row_that_is_named_once_moves_as_far_as_adamw_moves_it_in_the_end():
    model = RankingModel(**CONFIG | SWITCHES["item IDs"] | {"num_items": 12})
    options, table = TrainingOptions(sparse_ids=True), model.items.item_ids
    table.sparse = True
    sparse = sparse_optimizer_of(model, options)
    dense_table = torch.nn.Parameter(table.weight.detach().clone())
    dense = torch.optim.AdamW([dense_table], lr=options.learning_rate, weight_decay=0.0)
    before, late, after = table.weight[3].detach().clone(), 3000, 80

    for step in range(late + after):  # row 1 is in each batch, row 3 in a late one alone
        rows = [1, 3] if step == late else [1]
        for weight, optimizer in ((table.weight, sparse), (dense_table, dense)):
            optimizer.zero_grad()
            torch.nn.functional.embedding(torch.tensor(rows), weight, sparse=weight is table.weight).sum().backward()
            optimizer.step()

    moved, expected = table.weight[3].detach() - before, dense_table[3].detach() - before
    assert moved == pytest.approx(expected, rel=0.05)
