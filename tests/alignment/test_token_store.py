"""The tokens of a batch are those of its items, padded with zeros, whatever their number and type."""

import numpy as np
import torch

from qarm_features.alignment.token_store import TokenStore, compact


def tokens(number: int, value: float) -> torch.Tensor:
    return compact(torch.full((number, 2), value))


def test_a_batch_holds_the_tokens_of_its_items_in_their_order():
    store = TokenStore(5, 2, capacity=10)
    for item, (number, value) in {3: (2, 1.0), 0: (1, 2.0)}.items():
        assert store.add(item, tokens(number, value))

    values, mask = store.gather(np.array([0, 3, 4, 0]))

    assert mask.tolist() == [[True, False], [True, True], [False, False], [True, False]]
    assert values[..., 0].tolist() == [[2, 0], [1, 1], [0, 0], [2, 0]]
    assert values.dtype == torch.float32


def test_items_that_are_not_stored_are_taken_from_the_others():
    store = TokenStore(5, 2, capacity=10)
    store.add(1, tokens(1, 1.0))

    values, mask = store.gather(np.array([2, 1]), {2: tokens(3, 7.0)})

    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert values[..., 0].tolist() == [[7, 7, 7], [1, 0, 0]]


def test_without_room_nothing_is_stored():
    store = TokenStore(5, 2, capacity=3)

    assert [store.add(0, tokens(2, 1.0)), store.add(1, tokens(2, 1.0))] == [True, False]
    assert store.num_bytes == 2 * 2 * 2
    assert store.gather(np.array([1])).mask.shape == (1, 0)


def test_a_value_that_float16_cannot_hold_changes_no_other_item():
    rounded = tokens(1, 1 / 3)
    store = TokenStore(3, 2, capacity=10)
    store.add(0, rounded)
    bytes_with = store.bytes_with(tokens(1, 1e6))
    store.add(1, tokens(1, 1e6))
    store.add(2, rounded)

    values, _ = store.gather(np.array([0, 1, 2]))

    assert values[1, 0, 0] == 1e6
    assert values[0, 0, 0] == values[2, 0, 0] == rounded.float()[0, 0]
    assert bytes_with == 2 * 2 * 4
