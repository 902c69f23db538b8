"""Models read only the past of the planted world, and a trial finds planted effects and no others."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.planted_world.batches import HISTORY, WorldBatches, index_items, latest_positives
from benchmarks.planted_world.catalog import Strengths
from benchmarks.planted_world.ideas import CODES, COMPARED_WITH, EVERYTHING, IDEAS, LADDER
from benchmarks.planted_world.kept import as_line, kept_trials
from benchmarks.planted_world.representations import co_click_pairs, nearest_items, rq_codes
from benchmarks.planted_world.shares import ladder, table, verdict
from benchmarks.planted_world.trials import Figures, Trial, World, run_trial


@pytest.fixture(scope="module")
def world():
    return World(EVERYTHING, items=640, users=200, per_user=40, seed=0)


def test_latest_positives_are_those_strictly_before():
    item, label = np.array([[5, 6, 7, 8]]), np.array([[1, 0, 1, 1]])

    found = latest_positives(item, label, 2)

    assert found.tolist() == [[[-1, -1], [-1, 5], [-1, 5], [5, 7]]]


def test_co_click_pairs_are_consecutive_positives_of_one_user_in_the_given_rows():
    item = np.array([[1, 2, 3], [4, 5, 5]])
    label = np.array([[1, 0, 1], [1, 1, 1]])

    pairs = co_click_pairs(item, label, np.array([0, 1, 2, 3, 4, 5]))

    assert pairs.tolist() == [[1, 3], [4, 5]]  # 3 and 4 are of two users, 5 and 5 are one item


def test_items_of_the_training_rows_have_the_first_indexes(world):
    indexes = index_items(world.catalog, world.seen)

    known = set(world.seen.item.ravel()[world.seen.rows("train")].tolist())

    assert set(indexes.item[1 : 1 + indexes.num_known].tolist()) == known
    assert indexes.of_item[indexes.item[1:]].tolist() == list(range(1, 641))


def test_a_batch_holds_only_what_was_before_its_row(world):
    codes = np.stack([world.catalog.cluster] * 2, axis=1)
    row = 7 * 40 + 15  # user 7's impression 15
    batches = WorldBatches(
        world.seen, world.indexes, np.array([row]), codes=codes, behaviors=world.behaviors(), with_history=True
    )

    (batch,) = batches

    past = slice(15 - HISTORY, 15)
    items, labels = world.seen.item[7, past], world.seen.label[7, past]
    assert batch.item_index.item() == world.indexes.of_item[world.seen.item[7, 15]]
    assert batch.label.item() == world.seen.label[7, 15]
    assert batch.impression_index[0].tolist() == world.indexes.of_item[items].tolist()
    assert batch.impression_label[0].tolist() == labels.tolist()
    assert batch.impression_codes[0, :, 1].tolist() == world.catalog.cluster[items].tolist()
    before = world.seen.item[7, :15][world.seen.label[7, :15] == 1][-6:]
    assert batch.behavior_index[0][batch.behavior_mask[0]].tolist() == world.indexes.of_item[before].tolist()


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(world):
    rows = world.seen.rows("train")
    codes = np.zeros((640, 1), np.int64)
    batches = WorldBatches(world.seen, world.indexes, rows, codes=codes, batch_size=512, shuffle=True)

    orders = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        orders.append(np.concatenate([batch.user_group.numpy() for batch in batches]))

    assert [np.sort(order).tolist() for order in orders] == [(rows // 40).tolist()] * 2
    assert orders[0].tolist() != orders[1].tolist()


def test_the_first_code_of_true_content_merges_clusters_and_later_ones_say_the_place():
    world = World(Strengths(), items=6400, users=50, per_user=40, seed=0)

    codes = rq_codes(world.embeddings("true"), np.arange(6400), num_levels=3, codebook_size=CODES, seed=0)

    def left(values, group):
        """Return the mean square of values (N, D) around their means by group, relative to that around their mean."""
        numbers = np.unique(group, return_inverse=True)[1].ravel()
        means = np.stack([np.bincount(numbers, column) for column in values.T]) / np.bincount(numbers)
        return np.square(values - means.T[numbers]).mean() / values.var(axis=0).mean()

    centers = np.eye(45)[world.catalog.cluster]
    assert 0.2 < left(centers, codes[:, 0]) < 0.5  # 32 codes cannot tell 45 clusters apart
    assert left(centers, codes[:, 0] * CODES + codes[:, 1]) < 0.1
    whole = (codes * CODES ** np.arange(3)).sum(axis=1)
    assert left(world.catalog.place, whole) < 0.3 < left(world.catalog.place, codes[:, 0])


def test_nearest_items_are_of_the_bank_and_leave_the_item_out(world):
    bank = np.arange(0, 640, 2)

    items, cosines = nearest_items(world.embeddings("true"), bank, k=5)

    embeddings = world.embeddings("true")
    exact = embeddings @ embeddings[bank].T
    exact[bank, np.arange(len(bank))] = -np.inf
    assert np.isin(items, bank).all()
    assert cosines == pytest.approx(-np.sort(-exact, axis=1)[:, :5], abs=1e-5)


@pytest.mark.slow
def test_a_trial_recovers_the_depth_that_is_planted_and_none_in_the_control():
    depth = next(idea for idea in IDEAS if idea.name == "depth of codes")

    planted, control = (run_trial(depth, planted=kind, seed=0, scale=0.05, epochs=1) for kind in (True, False))

    models = planted.new_items.models
    gain = models["3 levels of 32"] - models["1 level of 32"]
    assert gain > 0.3 * (planted.new_items.ceiling - models["1 level of 32"])
    # Without planted depth a little is left, because one level of 32 codes cannot tell 45 clusters apart.
    assert control.new_items.models["3 levels of 32"] - control.new_items.models["1 level of 32"] < gain / 2


def test_every_idea_has_models_without_it_and_with_it():
    for idea in IDEAS:
        assert {model.has_idea for model in idea.models} == {True, False}
        assert len({model.name for model in idea.models}) == len(idea.models)


def test_trials_that_a_file_keeps_are_read_back(tmp_path):
    trial = Trial(
        "depth", True, 0, Figures(0.7, {"a": 0.6}, {"a": 0.5}), Figures(0.7, {"a": 0.6}, {"a": 0.5}), {"a": 1.0}
    )
    file = tmp_path / "trials.jsonl"
    file.write_text(as_line(trial, 0.1, 1) + "\n")

    assert kept_trials(file, 0.1, 1) == {("depth", True, 0): trial}
    assert kept_trials(file, 0.2, 1) == {}


@pytest.mark.parametrize(
    ("gains", "said"),
    [([0.02, 0.021, 0.019], "gain"), ([0.01, -0.01, 0.002], "tie"), ([-0.02, -0.021, -0.019], "loss")],
)
def test_a_gain_whose_interval_over_seeds_holds_zero_is_a_tie(gains, said):
    assert verdict(gains) == said


def test_the_table_compares_with_the_best_other_model_by_valid_rows():
    depth = next(idea for idea in IDEAS if idea.name == "depth of codes")
    test = {"1 level of 32": 0.60, "1 level of 96": 0.61, "1 level of 512": 0.63, "3 levels of 32": 0.66}
    valid = test | {"1 level of 96": 0.65}  # the best without the idea on valid, not on test
    trials = [
        Trial(depth.name, True, seed, Figures(0.71, test | {"3 levels of 32": 0.66 + seed / 1000}, valid), None, {})
        for seed in range(2)
    ]

    lines = list(table(trials, IDEAS, new_items=True))

    assert "3 levels of 32, over 1 level of 96: gain 0.0505 ± 0.0007" in lines[1]
    assert lines[1].endswith("possible 0.1000 ± 0.0000  share 0.51  gain")


def test_the_ladder_compares_each_model_with_the_one_named():
    auc = {"item IDs": 0.60, "+ frozen vector": 0.60, "+ frozen RQ codes": 0.65}
    trials = [
        Trial(
            "everything",
            True,
            seed,
            Figures(0.8, {}, {}),
            Figures(0.8, {n: a + seed * 0.01 for n, a in auc.items()}, {}),
            {},
        )
        for seed in range(2)
    ]

    lines = list(ladder(trials, {"+ frozen RQ codes": "+ frozen vector"}, new_items=False))

    assert lines[0] == "everything planted, test rows of all items, best possible AUC 0.8000 ± 0.0000"
    assert lines[3].endswith(
        " 0.6550 ± 0.0071, 0.52 ± 0.02 of what is above chance; over frozen vector 0.0500 ± 0.0000, gain"
    )


def test_the_ladder_names_only_its_own_models():
    names = {model.name for model in LADDER.models}

    assert set(COMPARED_WITH) | set(COMPARED_WITH.values()) == names
