"""Frozen tokens are projected chunk by chunk: values and gradients are those of one linear map over all of them."""

import numpy as np
import pytest
import torch
from torch import nn

from qarm_features.ranking import TokensInMemory
from qarm_features.ranking.modules import frozen_tokens
from qarm_features.ranking.modules.frozen_tokens import project_frozen_tokens

ROWS = np.array([1, 4, 5, 8])


def some_store() -> TokensInMemory:
    """Nine items; item 4 has no image, and masked places hold NaN."""
    generator = torch.Generator().manual_seed(0)
    masks = {"text": torch.rand(9, 5, generator=generator) < 0.7, "image": torch.ones(9, 2, dtype=torch.bool)}
    masks["text"][:, 0], masks["image"][4] = True, False
    sizes = {"text": 6, "image": 3}
    return TokensInMemory(
        {
            name: (
                torch.randn(*mask.shape, sizes[name], generator=generator).masked_fill(~mask[..., None], torch.nan),
                mask,
            )
            for name, mask in masks.items()
        }
    )


@pytest.mark.parametrize("chunk_numbers", [1, 100, 2**20])
def test_values_means_and_gradients_are_those_of_one_linear_map(monkeypatch, chunk_numbers):
    monkeypatch.setattr(frozen_tokens, "_CHUNK_NUMBERS", chunk_numbers)
    store = some_store()
    torch.manual_seed(0)
    projections = {name: nn.Linear(dim, 4) for name, dim in store.token_dims.items()}

    found = project_frozen_tokens(store, ROWS, projections)

    for name, projection in projections.items():
        values, mask = store.gather_modalities(ROWS)[name]
        values = values.masked_fill(~mask[..., None], 0.0)
        assert torch.equal(found.masks[name], mask)
        torch.testing.assert_close(found.values[name], projection(values))
        torch.testing.assert_close(found.means[name], values.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))
        weight = torch.randn(found.values[name].shape) * mask[..., None]
        expected = torch.autograd.grad((projection(values) * weight).sum(), list(projection.parameters()))
        of_chunks = torch.autograd.grad(
            (found.values[name] * weight).sum(), list(projection.parameters()), retain_graph=True
        )
        torch.testing.assert_close(of_chunks, expected)


def test_some_of_the_items_can_be_taken_out():
    store = some_store()
    projected = project_frozen_tokens(store, ROWS, {name: nn.Linear(dim, 4) for name, dim in store.token_dims.items()})

    some = projected.of(torch.tensor([True, False, True, True]))

    assert torch.equal(some.values["image"], projected.values["image"][[0, 2, 3]])
    assert torch.equal(some.means["text"], projected.means["text"][[0, 2, 3]])
