"""EM3's content interest over T = 1,000 behaviors: LoRA projections against full ones, folded against plain attention.

Each variant makes the same training steps (forward, backward, AdamW) in a process of its own. Memory is the peak during the
steps minus the memory before the first step, when the inputs are already there. ``written out`` is plain attention: every
behavior is projected to keys and values for torch's scaled_dot_product_attention. Behaviors get gradients, as they do where
the fusion below is trained.

    python benchmarks/em3_memory.py                          # B = 64, T = 1,000, D = 128 to 64
    python benchmarks/em3_memory.py --dim 512 --output-dim 512 --batch 16
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.ranking import ContentInterest

WAYS = ("LoRA", "full", "full, written out")


class WrittenOut(nn.Module):
    """Multi-head attention of one target over T behaviors by three full projections."""

    def __init__(self, dim: int, output_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (nn.Linear(dim, output_dim, bias=False) for _ in range(3))

    def forward(self, target: Tensor, behavior: Tensor, mask: Tensor) -> Tensor:
        """Attend from target (B, D) to behavior (B, T, D) with mask (B, T), and return (B, D_out)."""
        query = self.query(target).unsqueeze(1).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, 1, E)
        key, value = (
            projection(behavior).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        return attended.squeeze(2).flatten(1)


def main() -> None:
    """Print weights, optimizer state, memory and time of each variant, and their ratios to LoRA."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--batch", type=int, default=64, help="batch size B")
    arguments.add_argument("--length", type=int, default=1000, help="length T of the sequence")
    arguments.add_argument("--dim", type=int, default=128, help="dimension D of the content")
    arguments.add_argument("--output-dim", type=int, default=64)
    arguments.add_argument("--rank", type=int, default=8)
    arguments.add_argument("--steps", type=int, default=10, help="timed steps, after two steps that are not timed")
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    shape = f"B {options.batch}, T {options.length:,}, D {options.dim} to {options.output_dim}, rank {options.rank}"
    print(f"{shape}, {options.threads} threads, load {os.getloadavg()[0]:.1f}")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = {way: pool.apply(measure, (way, options)) for way in WAYS}
    for way, (weights, state, memory, seconds) in found.items():
        trained = f"{weights:>9,} trained weights, {state / 1e3:>9,.1f} kB of AdamW state"
        print(f"{way:>18}: {trained}, {memory / 1e6:>7,.1f} MB of a step, {1000 * seconds:>7.1f} ms a step")
    for way in WAYS[1:]:
        weights, state, memory, seconds = (other / ours for other, ours in zip(found[way], found["LoRA"]))
        print(f"{way:>18}: ratio to LoRA: state {state:.1f}, memory {memory:.2f}, time {seconds:.2f}")


def measure(way: str, options: argparse.Namespace) -> tuple[int, int, int, float]:
    """Return trained weights, bytes of optimizer state, peak bytes of a step and seconds of the fastest step."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if way == "full, written out":
        model = WrittenOut(options.dim, options.output_dim, num_heads=4)
    else:
        rank = options.rank if way == "LoRA" else None
        model = ContentInterest(options.dim, options.output_dim, num_heads=4, rank=rank)
    target = torch.randn(options.batch, options.dim)
    behavior = torch.randn(options.batch, options.length, options.dim, requires_grad=True)
    mask = torch.arange(options.length) < torch.randint(1, options.length + 1, (options.batch, 1))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights)
    behavior.grad = torch.zeros_like(behavior)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current memory
    before, seconds = _memory("VmRSS"), []
    for _ in range(options.steps + 2):
        started = time.perf_counter()
        optimizer.zero_grad()
        model(target, behavior, mask).square().mean().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    memory = _memory("VmHWM") - before
    moments = [part for state in optimizer.state.values() for part in state.values() if torch.is_tensor(part)]
    state = sum(part.numel() * part.element_size() for part in moments)
    return sum(weight.numel() for weight in weights), state, memory, min(seconds[2:])


def _memory(name: str) -> int:
    """Return an entry of /proc/self/status in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])


if __name__ == "__main__":
    main()
