"""Compute the gradient of a loss on a whole batch with the memory of a micro-batch.

In: micro-batches of rows and a loss of all their embeddings. Out: the loss, and gradients in the weights. A contrastive loss
needs all embeddings at once, but its gradient with respect to the weights does not. Micro-batches whose intermediate results
do not fit into memory are encoded without gradients, the loss is differentiated with respect to the embeddings, and then each
of these micro-batches is encoded again and backpropagates its part of that gradient. Source: GradCache, Gao et al., arXiv
2101.06983, section 3.
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
    step_bytes: int = 0,
) -> Tensor:
    """Add the gradient of ``compute_loss(cat(encode(rows) for rows in micro_batches))`` to the ``grad`` of the weights.

    As many of the first micro-batches as fit into ``step_bytes`` keep their intermediate results and are encoded once. Each
    other one is encoded twice from the same random state, so that dropout removes the same values. The gradient is the same,
    up to rounding, however many are kept.

    Args:
        encode: Function from a micro-batch of B rows to embeddings (B, D).
        micro_batches: Micro-batches, at least one, none larger than the first. A single one is always encoded once.
        compute_loss: Function from all embeddings to a loss of shape (); weights that it uses itself get a gradient too.
        device: GPU whose random state is restored in addition to that of the CPU; None or a CPU restores the latter only.
        step_bytes: Memory for intermediate results of the micro-batches, in bytes, at least 0.

    Returns:
        The detached loss, of shape ().
    """
    states, parts, number_kept = [], [], 1 if len(micro_batches) == 1 else 0
    for number, rows in enumerate(micro_batches):
        states.append(_random_state(device))
        if number == 0 and step_bytes and not number_kept:
            saved = _SavedBytes()
            with saved:
                part = encode(rows)
            number_kept = step_bytes // max(saved.total, 1)
        else:
            with torch.set_grad_enabled(number < number_kept):
                part = encode(rows)
        parts.append(part if number < number_kept else part.detach())
    embeddings = torch.cat(parts).detach().requires_grad_()
    loss = compute_loss(embeddings)
    loss.backward()
    assert embeddings.grad is not None  # it is a leaf of the loss
    after = _random_state(device)
    gradients = embeddings.grad.split([len(part) for part in parts])
    for number, (rows, state, gradient) in enumerate(zip(micro_batches, states, gradients)):
        if number < number_kept:
            part = parts[number]
        else:
            _set_random_state(state, device)
            part = encode(rows)
        if part.requires_grad:
            part.backward(gradient)
    _set_random_state(after, device)
    return loss.detach()


class _SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Count the bytes that are saved for the backward pass; memory that several operations save is counted once."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        super().__init__(self._count, lambda tensor: tensor)

    @property
    def total(self) -> int:
        return sum(self._sizes.values())

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        size = min(storage.nbytes(), tensor.nbytes)  # a part of a storage, or a value that is expanded over it
        self._sizes[storage.data_ptr()] = max(size, self._sizes.get(storage.data_ptr(), 0))
        return tensor


def _random_state(device: torch.device | None) -> tuple[Tensor, ...]:
    states = (torch.get_rng_state(),)
    return (*states, torch.cuda.get_rng_state(device)) if device is not None and device.type == "cuda" else states


def _set_random_state(states: tuple[Tensor, ...], device: torch.device | None) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1 and device is not None:
        torch.cuda.set_rng_state(states[1], device)
