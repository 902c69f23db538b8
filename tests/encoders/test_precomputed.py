"""Vectors that the user computed are checked and returned as tokens."""

import numpy as np
import pytest
import torch

from qarm_features.encoders import BrokenContent, PrecomputedEncoder


def test_a_vector_is_one_token():
    encoder = PrecomputedEncoder(dim=2)

    tokens = encoder([encoder.decode([1.0, 2.0]), encoder.decode(np.array([3, 4]))])

    assert tokens.values.tolist() == [[[1.0, 2.0]], [[3.0, 4.0]]]
    assert tokens.mask.tolist() == [[True], [True]]
    assert encoder([]).values.shape == (0, 1, 2)
    assert not encoder.trained and encoder.frozen_names() == set() and encoder.state_dict() == {}
    assert PrecomputedEncoder(**encoder.config).dim == encoder.dim == 2


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([1.0], "precomputed has 1 numbers, must have 2"),
        ([[1.0, 2.0]], "precomputed has no numbers, must have 2"),
        ([1.0, float("nan")], "precomputed holds null, NaN or infinity"),
        ([1.0, None], "precomputed holds null, NaN or infinity"),
        ([1.0, float("-inf")], "precomputed holds null, NaN or infinity"),
        ([1.0, 1e300], "precomputed holds null, NaN or infinity"),
        ([0.0, -0.0], "precomputed is all zero"),
        ([1e-300, 0.0], "precomputed is all zero"),
        (["a", "b"], "precomputed is not an array of numbers"),
        ([[1.0], [1.0, 2.0]], "precomputed is not an array of numbers"),
    ],
)
def test_a_broken_vector_is_refused(raw, reason):
    with pytest.raises(BrokenContent, match=f"^{reason}$"):
        PrecomputedEncoder(dim=2).decode(raw)


def test_a_dim_below_one_is_refused():
    with pytest.raises(ValueError, match=r"items.precomputed_dim is 0, must be at least 1"):
        PrecomputedEncoder(dim=0)


def test_tokens_lie_where_the_module_lies():
    encoder = PrecomputedEncoder(dim=2).to("meta")

    assert encoder([np.ones(2, np.float32)]).values.device == torch.device("meta")
