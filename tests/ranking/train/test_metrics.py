"""AUC, per-user AUC and log loss, against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics

from qarm_features.ranking import area_under_roc, log_loss, user_auc


def random_rows(seed: int, *, distinct_scores: int):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 500).astype(np.float32)
    scores = generator.integers(0, distinct_scores, 500).astype(np.float32) / 7 - 1
    users = generator.integers(-40, 40, 500)
    return labels, scores, users


def test_auc_is_the_chance_that_a_positive_scores_above_a_negative():
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.3, 0.1])

    area = area_under_roc(labels, scores)

    assert area == 0.75  # of 4 pairs only (0.3, 0.8) is in the wrong order


def test_tied_scores_count_one_half():
    assert area_under_roc(np.array([1, 0]), np.array([0.5, 0.5])) == 0.5


@pytest.mark.parametrize("distinct_scores", [2, 10, 100_000])
def test_auc_equals_scikit_learn_with_and_without_ties(distinct_scores):
    labels, scores, _ = random_rows(0, distinct_scores=distinct_scores)

    area = area_under_roc(labels, scores)

    assert area == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("distinct_scores", [2, 10, 100_000])
def test_user_auc_is_scikit_learns_mean_over_users_with_both_labels(distinct_scores):
    labels, scores, users = random_rows(1, distinct_scores=distinct_scores)

    mean = user_auc(labels, scores, users)

    own = [users == user for user in np.unique(users)]
    expected = [sklearn.metrics.roc_auc_score(labels[u], scores[u]) for u in own if len(np.unique(labels[u])) == 2]
    assert mean == pytest.approx(np.mean(expected), abs=1e-12)


def test_a_user_with_one_label_does_not_count():
    labels, scores, users = np.array([1, 0, 1, 1]), np.array([2.0, 1.0, 0.0, 5.0]), np.array([7, 7, 8, 8])

    mean = user_auc(labels, scores, users)

    assert mean == 1.0


def test_log_loss_equals_scikit_learn():
    labels, logits, _ = random_rows(2, distinct_scores=50)

    loss = log_loss(labels, logits)

    assert loss == pytest.approx(sklearn.metrics.log_loss(labels, 1 / (1 + np.exp(-logits.astype(np.float64)))))


def test_a_huge_logit_does_not_overflow():
    assert log_loss(np.array([0.0, 1.0]), np.array([1000.0, 1000.0])) == 500.0


def test_one_label_or_no_row_has_no_metric():
    none = np.zeros(0)

    values = [area_under_roc(none, none), user_auc(none, none, none), log_loss(none, none)]
    values += [area_under_roc(np.ones(2), np.ones(2)), user_auc(np.ones(2), np.ones(2), np.ones(2))]

    assert np.isnan(values).all()


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="scores hold 1 NaN, must hold none"):
        area_under_roc(np.array([0, 1]), np.array([0.0, np.nan]))


@pytest.mark.parametrize("metric", [area_under_roc, log_loss, lambda *both: user_auc(*both, np.zeros(len(both[0])))])
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        (
            [0.9, 0.2, 0.4],
            [1, 0, 1],
            r"labels hold 0\.2, must .* The (scores|logits) are all 0 or 1: swap the arguments\.",
        ),
        ([1, 2, 1], [0.9, 0.2, 0.4], r"labels hold 2, must hold only 0 and 1\. Set labels to 1 for a positive"),
        ([1, -1, 1], [0.9, 0.2, 0.4], r"labels hold -1, must hold only 0 and 1"),
        ([1, 0, np.nan], [0.9, 0.2, 0.4], r"labels hold nan, must hold only 0 and 1"),
        ([1, 0], [0.9, 0.2, 0.4], r"(scores|logits) have shape \(3,\), must have that of labels, \(2,\)"),
    ],
)
def test_labels_that_are_not_0_and_1_are_named(metric, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metric(np.array(labels), np.array(scores))


def test_users_of_another_length_are_named():
    with pytest.raises(ValueError, match=r"users have length 1, must have that of labels, 2\."):
        user_auc(np.array([0, 1]), np.array([0.1, 0.2]), np.array([7]))


def test_labels_may_be_booleans():
    assert area_under_roc(np.array([True, False]), np.array([0.9, 0.1])) == 1.0
