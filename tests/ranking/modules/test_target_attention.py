"""TargetAttention: the weights of behaviors for a target item."""

import numpy as np
import pytest
import torch

from qarm_features.ranking import TargetAttention


def random_inputs(batch: int = 3, length: int = 4, dim: int = 5):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(batch, dim, generator=generator)
    behavior = torch.randn(batch, length, dim, generator=generator)
    mask = torch.arange(length) < torch.tensor([[length], [2], [0]])
    return target, behavior, mask


def test_it_equals_the_mlp_and_softmax_written_out_in_numpy():
    torch.manual_seed(0)
    attention = TargetAttention(5, hidden_dim=6)
    target, behavior, mask = random_inputs()

    attended = attention(target, behavior, mask)

    weights = {name: weight.detach().numpy() for name, weight in attention.named_parameters()}
    for row, kept in enumerate([4, 2]):
        t, b = target[row].numpy(), behavior[row, :kept].numpy()
        hidden = weights["of_target.weight"] @ t + weights["of_target.bias"]
        hidden = hidden + b @ weights["of_behavior.weight"].T + (t * b) @ weights["of_product.weight"].T  # (T, 6)
        score = np.maximum(hidden, 0) @ weights["score.weight"][0]
        share = np.exp(score) / np.exp(score).sum()
        np.testing.assert_allclose(attended[row].detach().numpy(), share @ b, rtol=1e-5, atol=1e-6)


def test_equal_scores_average_the_behaviors():
    attention = TargetAttention(1)
    torch.nn.init.zeros_(attention.score.weight)
    behavior = torch.tensor([[[1.0], [5.0], [100.0]]])

    attended = attention(torch.tensor([[2.0]]), behavior, torch.tensor([[True, True, False]]))

    assert attended.tolist() == [[3.0]]


def test_a_user_without_behavior_gets_exactly_zero_and_a_finite_gradient():
    attention = TargetAttention(5)
    target, behavior, mask = random_inputs()

    attended = attention(target.requires_grad_(), behavior, mask)
    attended.sum().backward()

    assert attended[2].tolist() == [0.0] * 5
    assert torch.isfinite(target.grad).all()


def test_padding_length_and_what_stands_there_change_nothing():
    attention = TargetAttention(5)
    target, behavior, mask = random_inputs()
    more_behavior = torch.cat([behavior, torch.full((3, 7, 5), 50.0)], dim=1)
    more_mask = torch.cat([mask, torch.zeros(3, 7, dtype=torch.bool)], dim=1)

    attended = attention(target, more_behavior, more_mask)

    torch.testing.assert_close(attended, attention(target, behavior, mask))


def test_no_behavior_columns_at_all_give_zero():
    attention = TargetAttention(2)

    attended = attention(torch.ones(1, 2), torch.ones(1, 0, 2), torch.ones(1, 0, dtype=torch.bool))

    assert attended.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("name", ["dim", "hidden_dim"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0, must be at least 1"):
        TargetAttention(**({"dim": 1, "hidden_dim": 1} | {name: 0}))


def test_one_user_for_all_targets_is_that_user_repeated():
    torch.manual_seed(0)
    attention = TargetAttention(6, hidden_dim=5)
    target, behavior, mask = torch.randn(7, 6), torch.randn(1, 4, 6), torch.tensor([[True, True, False, True]])

    for_all = attention(target, behavior, mask)

    torch.testing.assert_close(for_all, attention(target, behavior.expand(7, -1, -1), mask.expand(7, -1)))
