"""The four things that training needs of ``torch.distributed``: rank, broadcast, gather and barrier.

In: the environment that torchrun or ``TorchDistributor`` sets. Out: a ``Processes`` object. In a single process every call
is local.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together, as one of them sees them.

    Args:
        rank: Number of this process, in [0, world_size). Only rank 0 writes files and logs.
        world_size: Number of processes, at least 1.
        device: Device on which this process computes.
    """

    rank: int
    world_size: int
    device: torch.device

    def broadcast(self, compute: Callable[[], Value]) -> Value:
        """Computes a value on rank 0 and returns it in every process.

        Args:
            compute: Function that only rank 0 calls; its value must be picklable.
        """
        if self.world_size == 1:
            return compute()
        values: list[Any] = [compute() if self.rank == 0 else None]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: Value) -> list[Value]:
        """Returns the values of all processes in the order of their ranks on rank 0, and an empty list elsewhere.

        Args:
            value: Picklable value of this process.
        """
        if self.world_size == 1:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, values, dst=0)
        return values or []

    def wait(self) -> None:
        """Waits until every process has called this method."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def joined_processes(*, seed: int, num_threads: int, use_gpu: bool) -> Iterator[Processes]:
    """Joins the process group that the environment describes and seeds torch; the end of the block undoes both.

    Args:
        seed: Seed of torch, equal in every process, so that all draw the same first weights.
        num_threads: Number of CPU threads of this process, at least 1.
        use_gpu: True to compute on the GPU with the number LOCAL_RANK, if there is one.

    Yields:
        The processes. world_size is 1 unless WORLD_SIZE is above 1 or a process group exists already.
    """
    gpu = use_gpu and torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else torch.device("cpu")
    starts_group = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    if gpu:
        torch.cuda.set_device(device)
    if starts_group:
        # gloo beside nccl, because predictions are gathered in host memory
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    try:
        with torch.random.fork_rng(devices=[device] if gpu else []):
            torch.manual_seed(seed)
            grouped = dist.is_initialized()
            yield Processes(dist.get_rank() if grouped else 0, dist.get_world_size() if grouped else 1, device)
    finally:
        torch.set_num_threads(threads)
        if starts_group:
            dist.destroy_process_group()


ALONE = Processes(rank=0, world_size=1, device=torch.device("cpu"))
