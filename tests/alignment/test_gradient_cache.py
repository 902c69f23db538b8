"""Gradient caching gives the gradients of one large batch with the memory of a micro-batch."""

import pytest
import torch
from torch import nn

from qarm_features.alignment.gradient_cache import cached_gradients
from qarm_features.alignment.loss import contrastive_loss


def loss_of(embeddings):
    trigger, target = torch.nn.functional.normalize(embeddings, dim=-1).chunk(2)
    return contrastive_loss(trigger, target, temperature=torch.tensor(0.1))


def gradients(module, compute) -> list[torch.Tensor]:
    module.zero_grad()
    torch.manual_seed(0)
    compute()
    return [weight.grad.clone() for weight in module.parameters()]


@pytest.mark.parametrize("micro_batch_size", [1, 3, 32])
def test_gradients_are_those_of_one_big_batch(micro_batch_size):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))
    rows = torch.randn(20, 6)

    cached = gradients(module, lambda: cached_gradients(module, rows.split(micro_batch_size), loss_of))

    whole = gradients(module, lambda: loss_of(module(rows)).backward())
    for got, expected in zip(cached, whole):
        assert torch.allclose(got, expected, atol=1e-6)


def test_dropout_falls_on_the_same_values_in_both_passes():
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 4))
    parts = torch.randn(20, 6).split(5)

    cached = gradients(module, lambda: cached_gradients(module, parts, loss_of))

    whole = gradients(module, lambda: loss_of(torch.cat([module(part) for part in parts])).backward())
    for got, expected in zip(cached, whole):
        assert torch.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("step_bytes", [1, 2_000, 1_000_000])
def test_what_fits_into_memory_is_encoded_once_with_the_same_gradient(step_bytes):
    """A micro-batch of 5 rows saves about 900 bytes: rows, weights and results of two layers."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 4))
    parts, calls = torch.randn(20, 6).split(5), []

    def encode(rows):
        calls.append(len(rows))
        return module(rows)

    cached = gradients(module, lambda: cached_gradients(encode, parts, loss_of, step_bytes=step_bytes))

    whole = gradients(module, lambda: loss_of(torch.cat([module(part) for part in parts])).backward())
    for got, expected in zip(cached, whole):
        assert torch.allclose(got, expected, atol=1e-6)
    assert len(calls) == {1: 8, 2_000: 6, 1_000_000: 4}[step_bytes]


def test_a_single_micro_batch_is_encoded_once():
    calls = []

    loss = cached_gradients(
        lambda rows: calls.append(1) or rows, [torch.ones(4, 3)], lambda embeddings: embeddings.sum()
    )

    assert (loss.item(), len(calls)) == (12.0, 1)


def test_a_weight_of_the_loss_gets_its_gradient():
    scale = nn.Parameter(torch.tensor(2.0))

    loss = cached_gradients(lambda rows: rows, torch.ones(4, 3).split(2), lambda embeddings: (embeddings * scale).sum())

    assert (loss.item(), scale.grad.item()) == (24.0, 12.0)


@pytest.mark.parametrize("batch_size", [64, 1024])
def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_batch(batch_size):
    """Counts the bytes autograd keeps at once while a micro-batch of 16 rows is encoded: 16 x (10 + 10) floats."""
    module = nn.Sequential(nn.Linear(10, 10), nn.ReLU())
    kept = []

    def encode(rows):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
            embeddings = module(rows)
        kept.append(sum(sizes))
        return embeddings

    cached_gradients(encode, torch.randn(batch_size, 10).split(16), loss_of)

    assert len(kept) == 2 * batch_size // 16
    assert max(kept) < 2_000
