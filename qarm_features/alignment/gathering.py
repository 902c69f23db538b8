"""Combine rows and gradients of all processes, so that they train like one process with the same batch.

In: rows and gradients of this process. Out: rows of all processes, and the sums of their gradients.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from qarm_features.torch_processes import Processes


def gather_rows(rows: Tensor, processes: Processes) -> Tensor:
    """Concatenate the rows of all processes in the order of their ranks.

    Gradients flow only to the rows of this process. If every process differentiates the same loss of all rows, each process
    gets the exact gradient of its own rows, and the gradient of a weight is the sum over all processes.

    Args:
        rows: Rows (B, D) of this process; B may differ between processes and may be 0.
        processes: Processes that train together.

    Returns:
        Rows (sum of B, D), with the same values in every process.
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
    """Sum the gradients of all processes; a weight that no process used gets a gradient of 0.

    Args:
        weights: Weights, the same in every process; their ``grad`` is changed in place.
        processes: Processes that train together.
    """
    gradients = []
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        gradients.append(weight.grad)
    if processes.world_size == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(total.view_as(gradient))


def broadcast_weights(weights: Iterable[Tensor], processes: Processes) -> None:
    """Copy the weights of the process of rank 0 to all processes.

    Args:
        weights: Weights, changed in place.
        processes: Processes that train together.
    """
    if processes.world_size > 1:
        for weight in weights:
            dist.broadcast(weight.data, src=0)
