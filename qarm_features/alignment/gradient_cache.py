"""Compute the gradient of a loss on a whole batch with the memory of a micro-batch.

In: micro-batches of rows and a loss of all their embeddings. Out: the loss, and gradients in the weights. A contrastive loss
needs all embeddings at once, but its gradient with respect to the weights does not. All micro-batches are encoded without
gradients, the loss is differentiated with respect to the embeddings, and then each micro-batch is encoded again and
backpropagates its part of that gradient. Source: GradCache, Gao et al., arXiv 2101.06983, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Rows = TypeVar("Rows")


def cached_gradients(
    encode: Callable[[Rows], Tensor],
    micro_batches: Sequence[Rows],
    compute_loss: Callable[[Tensor], Tensor],
    *,
    device: torch.device | None = None,
) -> Tensor:
    """Add the gradient of ``compute_loss(cat(encode(rows) for rows in micro_batches))`` to the ``grad`` of the weights.

    Each of several micro-batches is encoded twice from the same random state, so that dropout removes the same values. A
    single micro-batch is encoded once.

    Args:
        encode: Function from a micro-batch of B rows to embeddings (B, D).
        micro_batches: Micro-batches, at least one.
        compute_loss: Function from all embeddings to a loss of shape (); weights that it uses itself get a gradient too.
        device: GPU whose random state is restored in addition to that of the CPU; None or a CPU restores the latter only.

    Returns:
        The detached loss, of shape ().
    """
    if len(micro_batches) == 1:  # a single micro-batch fits into memory
        loss = compute_loss(encode(micro_batches[0]))
        if loss.requires_grad:
            loss.backward()
        return loss.detach()
    states, parts = [], []
    with torch.no_grad():
        for rows in micro_batches:
            states.append(_random_state(device))
            parts.append(encode(rows))
    embeddings = torch.cat(parts).detach().requires_grad_()
    loss = compute_loss(embeddings)
    loss.backward()
    assert embeddings.grad is not None  # it is a leaf of the loss
    after = _random_state(device)
    for rows, state, gradient in zip(micro_batches, states, embeddings.grad.split([len(part) for part in parts])):
        _set_random_state(state, device)
        again = encode(rows)
        if again.requires_grad:
            again.backward(gradient)
    _set_random_state(after, device)
    return loss.detach()


def _random_state(device: torch.device | None) -> tuple[Tensor, ...]:
    states = (torch.get_rng_state(),)
    return (*states, torch.cuda.get_rng_state(device)) if device is not None and device.type == "cuda" else states


def _set_random_state(states: tuple[Tensor, ...], device: torch.device | None) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1 and device is not None:
        torch.cuda.set_rng_state(states[1], device)
