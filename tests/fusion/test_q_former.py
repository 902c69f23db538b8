"""The Fusion-Q-Former ignores masked tokens, and untrained it is a random projection of the frozen embeddings."""

import pytest
import torch
from torch.nn.functional import normalize

from qarm_features.encoders.text import Tokens
from qarm_features.fusion.q_former import FusionQFormer

SIZES = {"text": 12, "image": 20}


@pytest.fixture
def q_former() -> FusionQFormer:
    """Returns a Fusion-Q-Former of two modalities whose head is not 0, as after some training."""
    torch.manual_seed(0)
    module = FusionQFormer(SIZES, num_queries=3, dim=16, num_layers=2, num_heads=4).eval()
    torch.nn.init.normal_(module.head.weight, std=0.5)
    return module


def some_tokens(num_items: int = 4) -> dict[str, Tokens]:
    """Returns five text and seven image tokens; the last item has no image and two text tokens."""
    generator = torch.Generator().manual_seed(1)
    masks = {"text": torch.ones(num_items, 5, dtype=torch.bool), "image": torch.ones(num_items, 7, dtype=torch.bool)}
    masks["text"][-1, 2:] = False
    masks["image"][-1] = False
    return {
        name: Tokens(torch.randn(num_items, mask.shape[1], SIZES[name], generator=generator), mask)
        for name, mask in masks.items()
    }


def test_items_become_queries_and_one_embedding_of_length_one(q_former):
    fused = q_former(some_tokens())

    assert fused.queries.shape == (4, 3, 16)
    assert fused.pooled.shape == (4, 16)
    assert torch.allclose(fused.pooled.norm(dim=-1), torch.ones(4))


@pytest.mark.parametrize("value", [1e4, float("nan"), float("inf")])
def test_the_value_of_a_masked_token_changes_no_bit(q_former, value):
    tokens = some_tokens()
    other = {name: Tokens(values.masked_fill(~mask[..., None], value), mask) for name, (values, mask) in tokens.items()}

    expected, fused = q_former(tokens), q_former(other)

    assert torch.equal(fused.queries, expected.queries)
    assert torch.equal(fused.pooled, expected.pooled)


def test_a_masked_token_gives_no_gradient(q_former):
    tokens = some_tokens()
    tokens["text"].values.requires_grad_()

    q_former(tokens).queries[..., 0].sum().backward()  # the sum of a whole layer-normalized row would be constant

    assert not tokens["text"].values.grad[-1, 2:].any()
    assert tokens["text"].values.grad[-1, :2].abs().sum() > 0


def test_a_row_without_a_modality_equals_the_row_in_a_batch_where_nobody_has_it(q_former):
    tokens = some_tokens()
    (values, mask) = tokens["text"]

    together = q_former(tokens)
    alone = q_former({"text": Tokens(values[-1:, :2], mask[-1:, :2])})

    assert torch.allclose(alone.pooled[0], together.pooled[-1], atol=1e-6)
    assert torch.allclose(alone.queries[0], together.queries[-1], atol=1e-5)


def test_untrained_it_keeps_the_frozen_geometry():
    """If dim is at least D of the tokens, the orthogonal skip preserves every cosine of the mean tokens."""
    torch.manual_seed(0)
    module = FusionQFormer({"text": 12}, dim=16, num_heads=4)
    tokens = {"text": some_tokens()["text"]}
    values, mask = tokens["text"]
    mean = normalize((values * mask[..., None]).sum(1), dim=-1)

    pooled = module(tokens).pooled

    assert torch.allclose(pooled @ pooled.T, mean @ mean.T, atol=1e-5)


def test_every_weight_learns(q_former):
    (q_former(some_tokens()).pooled * torch.randn(4, 16)).sum().backward()

    assert [name for name, weight in q_former.named_parameters() if not weight.grad.any()] == []


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_shared_queries_give_what_queries_of_each_item_give(dropout):
    """The first layer computes once what is the same for all items; with dropout, each item drops other numbers."""
    torch.manual_seed(0)
    module = FusionQFormer(SIZES, num_queries=3, dim=16, num_layers=2, num_heads=4, dropout=dropout)
    torch.nn.init.normal_(module.head.weight)
    layer, memory, mask = module.layers[0], torch.randn(4, 5, 16), some_tokens()["text"].mask

    torch.manual_seed(1)
    shared = layer(module.queries.unsqueeze(0), memory, mask)
    torch.manual_seed(1)
    of_each = layer(module.queries.expand(4, -1, -1), memory, mask)

    torch.testing.assert_close(shared, of_each)


def test_flat_queries_reach_the_head_one_by_one():
    """A head that reads the second query alone sees nothing of the others."""
    torch.manual_seed(0)
    module = FusionQFormer({"text": 12}, num_queries=3, dim=16, num_heads=4, flatten_queries=True)
    torch.nn.init.zeros_(module.skips["text"].weight)
    with torch.no_grad():
        module.head.weight[:, 16:32] = torch.eye(16)

    fused = module({"text": some_tokens()["text"]})

    torch.testing.assert_close(fused.pooled, normalize(fused.queries[:, 1], dim=-1))


def test_an_item_without_any_token_is_an_error(q_former):
    tokens = some_tokens()
    tokens["text"].mask[-1] = False

    with pytest.raises(ValueError, match="Item in row 3 has no token, must have at least one"):
        q_former(tokens)


@pytest.mark.parametrize(("tokens", "message"), [
    ({}, "tokens is empty, must hold one of text, image"),
    ({"audio": Tokens(torch.ones(1, 1, 4), torch.ones(1, 1, dtype=torch.bool))},
     "Modality is audio, must be one of text, image"),
    ({"text": Tokens(torch.ones(1, 1, 4), torch.ones(1, 1, dtype=torch.bool))},
     "Tokens of text have D = 4, must be 12"),
])  # fmt: skip
def test_tokens_of_another_encoder_are_refused(q_former, tokens, message):
    with pytest.raises(ValueError, match=message):
        q_former(tokens)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"token_dims": {}}, "token_dims is empty, must name at least one modality"),
    ({"num_queries": 0}, "num_queries is 0, must be at least 1"),
    ({"dim": 18, "num_heads": 4}, "dim is 18, must be a multiple of num_heads = 4"),
])  # fmt: skip
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FusionQFormer(**{"token_dims": SIZES} | arguments)
