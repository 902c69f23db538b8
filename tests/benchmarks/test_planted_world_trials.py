"""Models read only the past of the planted world, and a trial finds planted effects and no others."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.planted_world.batches import WorldBatches, index_items, latest_positives
from benchmarks.planted_world.catalog import CLUSTERS, Strengths
from benchmarks.planted_world.ideas import COMPARED_WITH, EVERYTHING, IDEAS, LADDER
from benchmarks.planted_world.impressions import WINDOW
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

    past = slice(15 - WINDOW, 15)
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


def test_the_first_code_of_true_content_is_the_cluster_and_the_second_is_the_place():
    world = World(Strengths(), items=6400, users=50, per_user=40, seed=0)

    codes = rq_codes(world.embeddings("true"), np.arange(6400), num_levels=2, codebook_size=CLUSTERS, seed=0)

    assert len(np.unique(codes[:, 0] * CLUSTERS + world.catalog.cluster)) == CLUSTERS
    means = np.stack([np.bincount(codes[:, 1], axis) for axis in world.catalog.place.T])
    of_code = (means / np.bincount(codes[:, 1])).T[codes[:, 1]]
    assert np.square(world.catalog.place - of_code).mean() < 0.1 * np.square(world.catalog.place).mean()


def test_nearest_items_are_of_the_bank_and_leave_the_item_out(world):
    bank = np.arange(0, 640, 2)

    items, cosines = nearest_items(world.embeddings("true"), bank, k=5)

    embeddings = world.embeddings("true")
    exact = embeddings @ embeddings[bank].T
    exact[bank, np.arange(len(bank))] = -np.inf
    assert np.isin(items, bank).all()
    assert cosines == pytest.approx(-np.sort(-exact, axis=1)[:, :5], abs=1e-5)


def test_a_trial_recovers_the_depth_that_is_planted_and_none_in_the_control():
    depth = next(idea for idea in IDEAS if idea.name == "depth of codes")

    planted, control = (run_trial(depth, planted=kind, seed=0, scale=0.05, epochs=1) for kind in (True, False))

    gain = planted.new_items.models["3 levels"] - planted.new_items.models["1 level"]
    assert gain > 0.3 * (planted.new_items.ceiling - planted.new_items.floor)
    assert control.new_items.models["3 levels"] - control.new_items.models["1 level"] < 0.02
    assert control.new_items.ceiling - control.new_items.floor == 0.0


@pytest.mark.parametrize(
    ("gains", "said"),
    [([0.02, 0.021, 0.019], "gain"), ([0.01, -0.01, 0.002], "tie"), ([-0.02, -0.021, -0.019], "loss")],
)
def test_a_gain_whose_interval_over_seeds_holds_zero_is_a_tie(gains, said):
    assert verdict(gains) == said


def test_the_table_prints_the_gain_as_a_share_of_the_possible_one():
    trials = [
        Trial("depth", True, seed, Figures(0.6, 0.7, {"a": 0.61, "b": 0.66 + seed / 1000}), Figures(0.6, 0.7, {}), {})
        for seed in range(2)
    ]

    lines = list(table(trials, new_items=True))

    assert "gain 0.0505 ± 0.0007  share 0.51 ± 0.01  gain" in lines[1]
    assert "possible 0.1000 ± 0.0000" in lines[1]


def test_the_ladder_compares_each_model_with_the_one_named():
    auc = {"item IDs": 0.60, "+ frozen vector": 0.60, "+ frozen RQ codes": 0.65}
    trials = [
        Trial(
            "everything",
            True,
            seed,
            Figures(0.5, 0.8, {}),
            Figures(0.5, 0.8, {n: a + seed * 0.01 for n, a in auc.items()}),
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
