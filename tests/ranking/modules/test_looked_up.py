"""What is looked up once per distinct item: distinct values without a sort, and tensors that are made once."""

import pytest
import torch

from qarm_features.ranking.modules.looked_up import LookedUp, distinct


@pytest.mark.parametrize("most", [5, 10_000, 2**40])
def test_distinct_values_are_those_of_torch_unique(most):
    index = torch.randint(0, most, (300,), generator=torch.Generator().manual_seed(0))

    values, place = distinct(index)

    expected = torch.unique(index, return_inverse=True)
    assert (values.tolist(), place.tolist()) == tuple(tensor.tolist() for tensor in expected)


def test_no_values_are_no_distinct_values():
    assert [tensor.tolist() for tensor in distinct(torch.empty(0, dtype=torch.int64))] == [[], []]


def test_a_tensor_of_distinct_items_is_made_once_for_all_places():
    made, calls = {}, []
    places = [LookedUp({"a": torch.eye(2)}, torch.tensor(rows), ("a",), made) for rows in ([0, 1], [[1, 1]])]

    def make():
        calls.append(1)
        return torch.tensor([[5.0], [7.0]])

    found = [place.spread(place.once("sum", make)).tolist() for place in places]

    assert found == [[[5.0], [7.0]], [[[7.0], [7.0]]]]
    assert len(calls) == 1
