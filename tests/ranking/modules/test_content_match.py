"""The target compared with a user's past in content space."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from qarm_features.ranking import ContentMatch

TARGET = torch.tensor([[2.0, 0.0]])
PAST = torch.tensor([[[1.0, 0.0], [0.0, 3.0], [9.0, 9.0]]])  # cosines 1 and 0; the third is masked
MASK = torch.tensor([[True, True, False]])


def test_mean_largest_and_nearness_are_those_of_the_cosines():
    features = ContentMatch(sharpness=[2.0])(TARGET, PAST, MASK)

    assert features.tolist() == [pytest.approx([0.5, 1.0, math.log((1 + math.exp(-2)) / 2)])]


def test_the_rate_is_a_kernel_regression_of_the_label_drawn_toward_the_users_own_rate():
    label = torch.tensor([[1, 0, 1]])

    features = ContentMatch(use_labels=True, sharpness=[2.0], smoothing=3.0)(TARGET, PAST, MASK, label=label)

    kernel = np.exp(2 * (np.array([1.0, 0.0]) - 1))
    expected = (kernel * (np.array([1, 0]) - 0.5)).sum() / (kernel.sum() + 3 * np.exp(2 * (0.3 - 1)))
    assert features[0, 3].item() == pytest.approx(expected)


def test_likes_of_similar_items_raise_the_rate_and_dislikes_lower_it():
    match = ContentMatch(use_labels=True)

    liked = match(TARGET, PAST, MASK, label=torch.tensor([[1, 0, 0]]))[0, -1]
    disliked = match(TARGET, PAST, MASK, label=torch.tensor([[0, 1, 0]]))[0, -1]

    assert liked > 0 > disliked


def test_no_past_and_no_content_give_zeros_and_finite_gradients():
    match = ContentMatch(use_labels=True)
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    past = torch.zeros(2, 3, 2, requires_grad=True)
    mask = torch.tensor([[False, False, False], [True, True, True]])

    features = match(target, past, mask, label=torch.ones(2, 3))
    features.sum().backward()

    assert features.tolist() == [[0.0] * 6] * 2
    assert torch.isfinite(target.grad).all() and torch.isfinite(past.grad).all()


def test_padding_and_order_of_the_past_change_nothing():
    torch.manual_seed(0)
    match, target, past = ContentMatch(use_labels=True), torch.randn(4, 8), torch.randn(4, 6, 8)
    mask, label = torch.rand(4, 6) < 0.7, torch.randint(0, 2, (4, 6))
    order = torch.randperm(6)

    plain = match(target, past, mask, label=label)
    padded = match(
        target,
        torch.cat([past[:, order], torch.full((4, 2, 8), 7.0)], dim=1),
        torch.cat([mask[:, order], torch.zeros(4, 2, dtype=torch.bool)], dim=1),
        label=torch.cat([label[:, order], torch.ones(4, 2, dtype=torch.int64)], dim=1),
    )

    torch.testing.assert_close(padded, plain)


def test_one_user_of_many_candidates_is_broadcast():
    match, past = ContentMatch(), torch.randn(1, 5, 4)
    target, mask = torch.randn(3, 4), torch.ones(1, 5, dtype=torch.bool)

    features = match(target, past, mask)

    torch.testing.assert_close(features, match(target, past.expand(3, -1, -1), mask.expand(3, -1)))


def test_gradients_reach_the_sharpness_and_the_content():
    match, target, past = ContentMatch(), TARGET.clone().requires_grad_(), PAST.clone().requires_grad_()

    match(target, past, MASK)[0, 2].backward()

    assert match.log_sharpness.grad[0].item() == pytest.approx(-5 * math.exp(-5) / (1 + math.exp(-5)), rel=1e-4)
    assert target.grad.abs().sum() > 0 and past.grad[0, 2].abs().sum() == 0


def test_a_missing_and_a_superfluous_label_are_refused():
    with pytest.raises(ValueError, match="label is missing, must be given"):
        ContentMatch(use_labels=True)(TARGET, PAST, MASK)
    with pytest.raises(ValueError, match="label is given, must be left out"):
        ContentMatch()(TARGET, PAST, MASK, label=torch.ones(1, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sharpness": []}, r"sharpness is \(\), must be one or more numbers above 0"),
        ({"sharpness": [1.0, 0.0]}, "sharpness is .* must be one or more numbers above 0"),
        ({"smoothing": 0.0}, "smoothing is 0.0, must be above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ContentMatch(**options)
