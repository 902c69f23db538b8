"""The gradient of a loss on a whole batch, in the memory of a micro-batch.

A contrastive loss needs all embeddings at once, but its gradient with respect to the weights does not: encode all
micro-batches without gradients, differentiate the loss with respect to the embeddings, then encode each micro-batch
again and hand it its share. Source: GradCache, Gao et al., arXiv 2101.06983, section 3.
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
    loss_of: Callable[[Tensor], Tensor],
    *,
    device: torch.device | None = None,
) -> Tensor:
    """Adds the gradient of ``loss_of(cat(encode(rows) for rows in micro_batches))`` to the weights' ``grad``.

    Each of several micro-batches is encoded twice, from the same random state, so that dropout falls on the same
    values. A single one is encoded once.

    Args:
        encode: micro-batch of B rows to embeddings (B, D).
        micro_batches: at least one.
        loss_of: all embeddings to a loss of shape (); weights of its own get their gradient too.
        device: the GPU whose random state is kept as well; None or a CPU: only the CPU's.

    Returns:
        The loss, of shape (), detached.
    """
    if len(micro_batches) == 1:  # fits into memory as it is
        loss = loss_of(encode(micro_batches[0]))
        if loss.requires_grad:
            loss.backward()
        return loss.detach()
    states, parts = [], []
    with torch.no_grad():
        for rows in micro_batches:
            states.append(_random_state(device))
            parts.append(encode(rows))
    embeddings = torch.cat(parts).detach().requires_grad_()
    loss = loss_of(embeddings)
    loss.backward()
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
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
