"""BehaviorMatch: the behaviors that share the target's code prefix, counted and pooled."""

import math

import pytest
import torch

from qarm_features.ranking.modules.behavior_match import LONGEST_AGE, BehaviorMatch, prefix_match

TARGET = torch.tensor([[1, 2]])
BEHAVIOR = torch.tensor([[[1, 2], [1, 3], [0, 2], [1, 2]]])  # the last one is padding
MASK = torch.tensor([[True, True, True, False]])


def test_a_prefix_ends_at_the_first_level_that_differs():
    matched = prefix_match(TARGET, BEHAVIOR)

    assert matched.tolist() == [[[True, True], [True, False], [False, False], [True, True]]]


def test_a_missing_target_and_a_missing_behavior_match_nothing():
    matched = prefix_match(torch.tensor([[-1, -1], [1, 2]]), torch.tensor([[[-1, -1]], [[-1, -1]]]))

    assert not matched.any()


def test_count_share_and_recency_stand_per_depth():
    features = BehaviorMatch(2)(TARGET, BEHAVIOR, MASK).features

    # the latest match of depth 1 has one later behavior, that of depth 2 has two
    expected = [[math.log(3), 2 / 3, 1 / 2, math.log(2), 1 / 3, 1 / 3]]
    torch.testing.assert_close(features, torch.tensor(expected))


def test_recency_comes_from_the_age_of_the_latest_match():
    age = torch.tensor([[LONGEST_AGE, 0.0, 5.0, float("nan")]])

    features = BehaviorMatch(2, use_ages=True)(TARGET, BEHAVIOR, MASK, age=age).features

    torch.testing.assert_close(features[0, [2, 5]], torch.tensor([1.0, 0.0]))


def test_the_rate_of_positives_is_drawn_toward_the_users_own():
    label = torch.tensor([[1.0, 0.0, 0.0, 1.0]])

    features = BehaviorMatch(2, use_labels=True)(TARGET, BEHAVIOR, MASK, label=label).features

    # the user's rate is 1/3: depth 1 has 1 of 2 positive, depth 2 has 1 of 1
    expected = [math.log(2), (1 + 1 / 3) / 3, math.log(2), (1 + 1 / 3) / 2]
    torch.testing.assert_close(features[0, [3, 4, 8, 9]], torch.tensor(expected))


def test_pooling_starts_as_the_mean_of_the_matches():
    behavior = torch.tensor([[[2.0], [4.0], [100.0], [100.0]]])

    pooled = BehaviorMatch(2, dim=1)(TARGET, BEHAVIOR, MASK, behavior=behavior).pooled

    assert pooled.tolist() == [[[3.0], [2.0]]]


def test_the_query_of_a_depth_weights_its_matches():
    match = BehaviorMatch(2, dim=1)
    torch.nn.init.constant_(match.query, math.log(3) / 2)
    behavior = torch.tensor([[[2.0], [4.0], [100.0], [100.0]]])

    pooled = match(TARGET, BEHAVIOR, MASK, behavior=behavior).pooled

    torch.testing.assert_close(pooled, torch.tensor([[[(2 + 3 * 4) / 4], [2.0]]]))  # scores differ by log 3


@pytest.mark.parametrize("left", [True, False])
def test_padding_on_either_side_changes_nothing(left):
    torch.manual_seed(0)
    match = BehaviorMatch(2, use_ages=True, use_labels=True, dim=3)
    torch.nn.init.normal_(match.query)
    codes, mask = torch.randint(0, 2, (4, 6, 2)), torch.rand(4, 6) < 0.8
    inputs = {"age": torch.rand(4, 6) * 1e5, "label": torch.ones(4, 6), "behavior": torch.randn(4, 6, 3)}
    target = torch.randint(0, 2, (4, 2))

    def padded(tensor):
        more = torch.ones(4, 3, *tensor.shape[2:]).to(tensor.dtype)
        more = torch.zeros_like(more) if tensor.dtype == torch.bool else more
        return torch.cat([more, tensor] if left else [tensor, more], dim=1)

    output = match(target, padded(codes), padded(mask), **{name: padded(value) for name, value in inputs.items()})

    torch.testing.assert_close(output, match(target, codes, mask, **inputs))
    positions = BehaviorMatch(2)
    torch.testing.assert_close(
        positions(target, padded(codes), padded(mask)).features, positions(target, codes, mask).features
    )


@pytest.mark.parametrize("length", [0, 2])
def test_a_user_without_behavior_gets_exactly_zero(length):
    match = BehaviorMatch(2, use_ages=True, use_labels=True, dim=3)
    rows = (1, length)
    inputs = {"age": torch.ones(rows), "label": torch.ones(rows), "behavior": torch.ones(*rows, 3)}

    output = match(TARGET, TARGET.expand(1, length, 2), torch.zeros(rows, dtype=torch.bool), **inputs)
    output.pooled.sum().backward()

    assert output.features.tolist() == [[0.0] * match.num_features]
    assert output.pooled.tolist() == [[[0.0] * 3] * 2]
    assert torch.isfinite(match.query.grad).all()


def test_an_input_the_constructor_did_not_announce_is_refused():
    with pytest.raises(ValueError, match="age is given, must be left out"):
        BehaviorMatch(2)(TARGET, BEHAVIOR, MASK, age=torch.ones(1, 4))


def test_an_announced_input_must_come():
    with pytest.raises(ValueError, match="label is missing, must be given"):
        BehaviorMatch(2, use_labels=True)(TARGET, BEHAVIOR, MASK)


def test_codes_of_another_number_of_levels_are_refused():
    with pytest.raises(ValueError, match="target_codes have 2 levels, must have num_levels = 3"):
        BehaviorMatch(3)(TARGET, BEHAVIOR, MASK)


def test_behavior_after_the_row_is_refused():
    with pytest.raises(ValueError, match=r"age holds -1\.0, must be at least 0"):
        BehaviorMatch(2, use_ages=True)(TARGET, BEHAVIOR, MASK, age=-torch.ones(1, 4))


@pytest.mark.parametrize("name", ["num_levels", "dim"])
def test_match_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0, must be at least 1"):
        BehaviorMatch(**({"num_levels": 1} | {name: 0}))


def test_a_smoothing_of_zero_is_refused():
    with pytest.raises(ValueError, match="smoothing is 0, must be above 0"):
        BehaviorMatch(1, smoothing=0)
