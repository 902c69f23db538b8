"""Neighboring tokens are averaged until few enough are left; the expected values are calculated by hand."""

import torch

from qarm_features.fusion.tokens import Tokens, average_tokens


def test_runs_of_neighbors_are_averaged_and_masked_ones_count_for_nothing():
    values = torch.tensor([[[1.0], [3.0], [5.0], [7.0]], [[2.0], [4.0], [float("nan")], [9.0]]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])

    found = average_tokens(Tokens(values, mask), 3)

    assert found.values[0].flatten().tolist() == [2.0, 5.0, 7.0]
    assert found.values[1].flatten().tolist() == [2.0, 4.0, 0.0]
    assert found.mask.tolist() == [[True, True, True], [True, True, False]]


def test_few_tokens_stay_as_they_are():
    tokens = Tokens(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))

    assert average_tokens(tokens, 3) is tokens


def test_no_token_at_all_stays_none():
    found = average_tokens(Tokens(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool)), 1)

    assert found.mask.tolist() == [[False]]
    assert found.values.abs().sum() == 0


def test_one_token_can_be_kept_as_it_is_wherever_the_padding_stands():
    row = [1.0, 3.0, 5.0, 7.0, 9.0]
    values = torch.tensor([[*row, 0.0], [0.0, *row]]).unsqueeze(-1)
    mask = torch.tensor([[True] * 5 + [False], [False] + [True] * 5])

    first = average_tokens(Tokens(values, mask), 3, alone="first")
    last = average_tokens(Tokens(values, mask), 3, alone="last")

    assert first.values.squeeze(-1).tolist() == [[1.0, 4.0, 8.0]] * 2
    assert last.values.squeeze(-1).tolist() == [[2.0, 6.0, 9.0]] * 2
    for alone, value in (("first", 1.0), ("last", 9.0)):
        one = average_tokens(Tokens(values, mask), 1, alone=alone)
        assert one.values.flatten().tolist() == [value] * 2 and one.mask.tolist() == [[True]] * 2
