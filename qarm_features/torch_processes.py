"""``torch.distributed`` reduced to what training needs: who am I, tell everyone, collect from everyone, wait.

Works the same alone, where every call is local, and in a process started by torchrun or ``TorchDistributor``.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together, seen from one of them.

    Args:
        rank: this process, in [0, world_size); rank 0 alone writes files and logs.
        world_size: number of processes.
        device: where this process computes.
    """

    rank: int
    world_size: int
    device: torch.device

    def broadcast(self, compute: Callable[[], Value]) -> Value:
        """Computes a value on rank 0 and returns it in every process."""
        if self.world_size == 1:
            return compute()
        box = [compute() if self.rank == 0 else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Value) -> list[Value]:
        """Returns the values of all processes in the order of their ranks on rank 0, an empty list elsewhere."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, values, dst=0)
        return values or []

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def joined_processes(*, seed: int, num_threads: int, use_gpu: bool) -> Iterator[Processes]:
    """Joins the process group that the environment describes, seeds torch, and puts both back at the end.

    Args:
        seed: the same in every process, so that all start from the same weights.
        num_threads: CPU threads of this process.
        use_gpu: whether to compute on the GPU numbered LOCAL_RANK, where there is one.

    Yields:
        This process's view; world_size is 1 unless WORLD_SIZE is above 1 or a group exists already.
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
