"""The planted world has the properties that its docstrings state, and is the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.planted_world.batches import BEHAVIORS, HISTORY
from benchmarks.planted_world.catalog import CLUSTERS, PARENTS, Strengths, make_catalog
from benchmarks.planted_world.ideas import CODES
from benchmarks.planted_world.impressions import DECAY, PARTS, WINDOW, make_impressions, parts_of
from benchmarks.planted_world.oracle import expected_auc, gain_of_each_part, oracle_auc

EVERYTHING = Strengths(popularity=0.8, coarse=0.6, taste=0.7, fine=0.7, local=0.7, match=0.5, hidden=0.7, nuisance=6.0)


def world(strengths: Strengths, *, seed: int = 0):
    catalog = make_catalog(1000, nuisance=strengths.nuisance, seed=seed)
    return catalog, make_impressions(catalog, strengths, num_users=1000, per_user=40, seed=seed)


def parts_and_labels(strengths: Strengths, *, seed: int = 0):
    catalog, seen = world(strengths, seed=seed)
    parts = parts_of(catalog, strengths, seen.item, seen.group, match=seen.match)
    return parts.reshape(-1, len(PARTS)), seen.label.ravel()


@pytest.fixture(scope="module")
def everything():
    return world(EVERYTHING)


def test_one_seed_gives_one_world_and_another_gives_another():
    first, again, other = world(EVERYTHING), world(EVERYTHING), world(EVERYTHING, seed=1)

    assert all(np.array_equal(*pair) for pair in zip(first[0] + first[1], again[0] + again[1]))
    assert not np.array_equal(first[1].label, other[1].label)


def test_worlds_of_other_strengths_show_the_same_items(everything):
    _, plain = world(Strengths())

    assert np.array_equal(plain.item, everything[1].item)
    assert not np.array_equal(plain.label, everything[1].label)


def test_no_item_is_shown_before_it_arrives(everything):
    catalog, seen = everything

    assert (catalog.arrival[seen.item] <= seen.time + 1e-5).all()


def test_most_test_impressions_are_of_items_that_training_never_saw(everything):
    _, seen = everything
    items = seen.item.ravel()

    known = np.isin(items[seen.rows("test")], items[seen.rows("train")])

    assert 0.25 < known.mean() < 0.45  # evergreen items, 0.3 of all impressions


def test_the_mean_of_tokens_tells_neither_the_hidden_number_nor_the_marked_token():
    catalog = make_catalog(2000, nuisance=6.0, seed=0)
    content = catalog.frozen_content.astype(np.float64)
    hidden = catalog.qualities[:, -1]

    weights, *_ = np.linalg.lstsq(content[:1000], hidden[:1000])

    assert abs(np.corrcoef(content[1000:] @ weights, hidden[1000:])[0, 1]) < 0.1


def test_nuisance_decides_which_frozen_contents_are_near_and_true_content_does_not():
    def same_cluster_as_nearest(nuisance: float) -> float:
        catalog = make_catalog(1000, nuisance=nuisance, seed=0)
        content = catalog.frozen_content
        away = np.square(content[:, None] - content).sum(axis=2) + 1e9 * np.eye(len(content))
        return float((catalog.cluster[away.argmin(axis=1)] == catalog.cluster).mean())

    assert same_cluster_as_nearest(0.0) == 1.0
    assert same_cluster_as_nearest(6.0) < 0.2  # 1 / 30 by chance


def test_clusters_of_one_parent_are_nearer_and_sizes_differ():
    catalog = make_catalog(5000, nuisance=0.0, seed=0)
    centers = np.stack([catalog.true_content[catalog.cluster == c].mean(axis=0)[:24] for c in range(CLUSTERS)])
    away = np.square(centers[:, None] - centers).sum(axis=2)
    same = np.equal.outer(*[np.arange(CLUSTERS) % PARENTS] * 2)

    sizes = np.bincount(catalog.cluster)

    assert away[same & ~np.eye(CLUSTERS, dtype=bool)].mean() < 0.6 * away[~same].mean()
    assert 5 < sizes.max() / sizes.min() < 10


def test_no_number_of_the_world_is_one_of_the_models():
    assert CODES not in (CLUSTERS, PARENTS, CLUSTERS // PARENTS)
    assert HISTORY != WINDOW
    assert BEHAVIORS != WINDOW


def test_the_match_part_counts_the_users_latest_labels_in_the_cluster(everything):
    catalog, seen = everything
    cluster, user, step = catalog.cluster[seen.item], 3, 30
    past = slice(step - WINDOW, step)

    balance = sum(
        (1 if label else -1) * DECAY**age
        for age, label, of in zip(range(WINDOW, 0, -1), seen.label[user, past], cluster[user, past])
        if of == cluster[user, step]
    )

    assert seen.match[user, step] == pytest.approx(np.tanh(balance / 2) / 0.5)
    assert seen.match.std() == pytest.approx(1.0, abs=0.05)


def test_labels_come_as_often_as_the_true_logits_say():
    parts, label = parts_and_labels(EVERYTHING)

    chance = 1 / (1 + np.exp(0.4 - parts.sum(axis=1)))

    groups = np.digitize(chance, np.arange(0.1, 1, 0.1))
    for group in range(10):
        of_group = groups == group
        error = np.sqrt(0.25 / of_group.sum())
        assert label[of_group].mean() == pytest.approx(chance[of_group].mean(), abs=4 * error)


def test_expected_auc_of_four_rows_is_the_mean_over_all_labels():
    chance, score = np.array([0.9, 0.4, 0.6, 0.2]), np.array([2.0, 1.0, 1.0, 0.0])
    wins = weights = 0.0
    for one in range(4):
        for other in set(range(4)) - {one}:
            weight = chance[one] * (1 - chance[other])
            wins += weight * ((score[one] > score[other]) + 0.5 * (score[one] == score[other]))
            weights += weight

    assert expected_auc(chance, score) == pytest.approx(wins / weights)


def test_the_best_auc_on_drawn_labels_is_the_expected_one():
    parts, label = parts_and_labels(EVERYTHING)
    logit = parts.sum(axis=1) - 0.4

    best = oracle_auc(parts, label, PARTS)

    assert best == pytest.approx(expected_auc(1 / (1 + np.exp(-logit)), logit), abs=4 * 0.5 / np.sqrt(len(label)))


@pytest.mark.parametrize("name", [name for name in Strengths._fields if name != "nuisance"])
def test_a_part_of_strength_zero_brings_the_oracle_nothing_and_another_one_does(name):
    gains = gain_of_each_part(*parts_and_labels(EVERYTHING._replace(**{name: 0.0})))

    assert gains.pop(name) == 0.0
    assert min(gains.values()) > 0.004


def test_every_cluster_has_an_item_of_either_kind_from_the_first_moment():
    catalog = make_catalog(128, nuisance=0.0, seed=0)

    there = catalog.arrival < 0

    for kind in (True, False):
        assert len(np.unique(catalog.cluster[there & (catalog.evergreen == kind)])) == CLUSTERS
