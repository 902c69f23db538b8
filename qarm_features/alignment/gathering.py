"""Rows and gradients across processes: what makes W processes train like one with the same batch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from qarm_features.torch_processes import Processes


def gather_rows(rows: Tensor, processes: Processes) -> Tensor:
    """Concatenates the rows of all processes in the order of their ranks.

    Gradients flow to this process's own rows only. When each process differentiates the same loss of all rows, each
    gets the exact gradient of its own, and the gradients of the weights are the sum over processes.

    Args:
        rows: (B of this process, D); B may differ between processes and may be 0.
        processes: those that take part.

    Returns:
        (sum of B, D), the same values in every process.
    """
    if processes.world_size == 1:
        return rows
    sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(processes.world_size)]
    dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
    counts = [int(size) for size in sizes]
    padded = rows.new_zeros(max(counts), rows.shape[1])
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    parts = [part[:count] for part, count in zip(parts, counts)]
    parts[processes.rank] = rows
    return torch.cat(parts)


def sum_gradients(weights: Iterable[nn.Parameter], processes: Processes) -> None:
    """Adds up the gradients of all processes; a weight that nobody used gets a gradient of 0 everywhere."""
    weights = list(weights)
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    if processes.world_size == 1 or not weights:
        return
    flat = torch.cat([weight.grad.flatten() for weight in weights])
    dist.all_reduce(flat)
    for weight, total in zip(weights, flat.split([weight.numel() for weight in weights])):
        weight.grad.copy_(total.view_as(weight))


def broadcast_weights(weights: Iterable[Tensor], processes: Processes) -> None:
    """Gives every process the weights of rank 0."""
    if processes.world_size > 1:
        for weight in weights:
            dist.broadcast(weight.data, src=0)
