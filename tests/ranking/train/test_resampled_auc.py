"""AUCs of resampled users are those of the drawn rows themselves, and two models are resampled in pairs."""

import numpy as np
import pytest

from qarm_features.ranking.train import resampled_auc as module
from qarm_features.ranking.train.metrics import area_under_roc, user_auc
from qarm_features.ranking.train.resampled_auc import interval, resampled_auc


def rows(seed=0):
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 12, 200)
    labels = rng.integers(0, 2, 200)
    return labels, (labels + rng.normal(size=200)).round(1), users  # rounded, so that scores tie


def test_a_draw_has_the_auc_of_the_rows_of_its_users_counted_as_often_as_they_were_drawn():
    labels, scores, users = rows()

    found = resampled_auc(labels, scores, users, seed=3)

    drawn = np.random.default_rng(3).integers(12, size=12)  # the first draw
    taken = np.concatenate([np.flatnonzero(users == user) for user in drawn])
    of_draws = np.concatenate([np.full((users == user).sum(), place) for place, user in enumerate(drawn)])
    assert found.auc[0] == pytest.approx(area_under_roc(labels[taken], scores[taken]))
    assert found.user_auc[0] == pytest.approx(user_auc(labels[taken], scores[taken], of_draws))
    assert len(found.auc) == 1000


def test_the_interval_holds_the_auc_and_is_wider_than_that_of_independent_rows_where_rows_of_a_user_are_alike():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 20)
    labels = users % 2
    scores = labels + rng.normal(scale=2, size=40)[users] + rng.normal(scale=0.1, size=800)

    low, high = interval(resampled_auc(labels, scores, users).auc)
    low_of_rows, high_of_rows = interval(resampled_auc(labels, scores, np.arange(800)).auc)

    assert low < area_under_roc(labels, scores) < high
    assert high - low > 2 * (high_of_rows - low_of_rows)


def test_two_models_of_the_same_rows_are_drawn_in_pairs_and_other_rows_are_told_apart():
    labels, scores, users = rows()

    one, shifted = resampled_auc(labels, scores, users), resampled_auc(labels, 2 * scores + 1, users)
    other = resampled_auc(1 - labels, scores, users)

    assert (one.auc == shifted.auc).all()
    assert one.drawn_from == shifted.drawn_from != other.drawn_from


def test_the_order_of_the_rows_and_the_size_of_chunks_change_nothing(monkeypatch):
    labels, scores, users = rows()
    order = np.random.default_rng(1).permutation(200)

    whole = resampled_auc(labels, scores, users)
    monkeypatch.setattr(module, "_CHUNK", 200 * 7)
    mixed = resampled_auc(labels[order], scores[order], users[order])

    np.testing.assert_allclose(mixed.auc, whole.auc, rtol=1e-12)
    assert mixed.drawn_from == whole.drawn_from


def test_many_rows_get_fewer_draws(monkeypatch):
    monkeypatch.setattr(module, "_WORK", 200 * 300)

    assert len(resampled_auc(*rows()).auc) == 300


def test_one_user_has_no_interval_and_a_draw_with_one_label_leaves_none():
    labels, scores = np.array([0, 1]), np.array([0.1, 0.2])

    assert resampled_auc(labels, scores, np.array([5, 5])) is None
    assert interval(resampled_auc(labels, scores, np.array([5, 6])).auc) is None
