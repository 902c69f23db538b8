"""Speed of item alignment on text: pairs per second of a training step, as it was at first and as it is.

As it was: the cached tokens of a batch are put together item by item, and each item is encoded twice in each step (gradient
cache). As it is: one gather, and what fits into ``step_bytes`` is encoded once; and the same with matrix products in
bfloat16, which needs a CPU that has them. All train the same encoder on the same batches in short rounds that alternate,
because other programs may use the machine; the medians are compared. The texts are those of MovieLens-1M, repeated to
``--items`` items with the number of the item, because equal ones would be one item.
Data: ``$QARM_DATA/ml1m`` or ``../shared/data/ml1m``. ::

    python benchmarks/align_speed.py --items 12086 --threads 2
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.nn.utils.rnn import pad_sequence

from qarm_features import ItemEncoder
from qarm_features.alignment import AlignmentOptions
from qarm_features.alignment.item_content import ItemContent
from qarm_features.alignment.packing import packed
from qarm_features.alignment.run import AlignmentRun
from qarm_features.alignment.training_data import TrainingData
from qarm_features.fusion.tokens import Tokens
from qarm_features.settings.sections import Encoder
from qarm_features.torch_processes import joined_processes

DATA = Path(os.environ.get("QARM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "ml1m"


class Repeated(ItemContent):
    """Contents of a catalog that repeats its first items, whose tokens are computed once."""

    distinct = 1

    def _compute(self, items: list[int]) -> dict:
        rows = super()._compute(sorted({item % self.distinct for item in items}))
        return {item: rows[item % self.distinct] for item in items}


class ItemByItem(Repeated):
    """The same, with the tokens of a batch put together item by item."""

    def _frozen_tokens(self, name: str, index: np.ndarray, computed: dict) -> Tokens:
        store = self._tokens[name]
        own = []
        for item in index.tolist():
            start = int(store._start[item])
            own.append(store._values[start : start + int(store._count[item])])
        values = pad_sequence(own, batch_first=True).float()
        lengths = torch.tensor([len(part) for part in own])
        return Tokens(values, torch.arange(values.shape[1]) < lengths[:, None])


def write_source(folder: Path, texts: list[str], *, items: int, pairs: int) -> None:
    """Write a catalog and random pairs, in which few items are in many pairs."""
    rng = np.random.default_rng(0)
    share = 1 / (np.arange(items) + 10.0) ** 0.8
    trigger, target = rng.choice(items, (2, pairs), p=share / share.sum())
    kept = trigger != target
    trigger, target = trigger[kept], target[kept]
    split = np.where(rng.random(len(trigger)) < 0.01, "valid", "train")
    tables = {
        "items": {
            "item_index": np.arange(items),
            "text": [f"{texts[item % len(texts)]} {item}" for item in range(items)],
        },
        "pairs": {"trigger_index": trigger, "target_index": target, "weight": np.ones(len(trigger)), "split": split},
    }
    for name, columns in tables.items():
        (folder / name).mkdir(parents=True)
        pq.write_table(pa.table(columns), folder / name / "part-0.parquet")


def main() -> None:
    """Print the pairs per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=12_086)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps of a round")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is absent: set QARM_DATA to a folder that holds ml1m. Skipped.")
    catalog = pd.read_parquet(DATA / "items.parquet", columns=["title", "genres"])
    texts = (catalog["title"] + ". " + catalog["genres"].fillna("")).tolist()
    now = AlignmentOptions(num_threads=arguments.threads, use_gpu=False)
    sides = {
        "as it was": (ItemByItem, replace(now, step_bytes=0)),
        "as it is": (Repeated, now),
        "as it is, bfloat16": (Repeated, replace(now, precision="bfloat16")),
    }
    settings = Encoder()
    shape = {name: getattr(settings, name) for name in ("num_queries", "dim", "num_layers", "num_heads")}
    runs, speeds, seconds = {}, {name: [] for name in sides}, {name: [] for name in sides}
    with (
        tempfile.TemporaryDirectory() as folder,
        joined_processes(seed=0, num_threads=arguments.threads, use_gpu=False) as processes,
    ):
        number = now.batch_size * arguments.steps * (arguments.rounds + 1)
        write_source(Path(folder) / "source", texts, items=arguments.items, pairs=int(number * 1.2))
        data = TrainingData(packed(Path(folder) / "source"), batch_size=now.batch_size)
        store = None
        for name, (content, options) in sides.items():
            torch.manual_seed(0)
            modalities = {"text": {"backbone": settings.text_backbone}}
            encoder = ItemEncoder(modalities, q_former=shape, tokens_kept=settings.tokens_kept)
            run = AlignmentRun(encoder, data, options, processes, None)
            run.content = content(encoder, data.items, cache_bytes=options.cache_bytes)
            run.content.distinct = len(texts)
            if store is None:
                run.content._prepare(np.arange(arguments.items))
                store = run.content
            run.content._tokens, run.content._is_cached = store._tokens, store._is_cached
            encoder.train()
            runs[name] = run
        batches = data.batches(0)
        for round_number in range(arguments.rounds + 1):
            drawn = [next(batches) for _ in range(arguments.steps)]
            for name, run in runs.items():
                started, busy = time.perf_counter(), time.process_time()
                for batch in drawn:
                    run._step(batch)
                    run.state["batch"] += 1
                if round_number:  # the first round warms up
                    speeds[name].append(sum(len(b.weight) for b in drawn) / (time.perf_counter() - started))
                    seconds[name].append(time.process_time() - busy)
        ends = [
            torch.cat([weight.detach().flatten() for weight in run.encoder.q_former.parameters()])
            for run in runs.values()
        ]
    for name, found in speeds.items():
        print(f"{name}: {statistics.median(found):.0f} pairs/s, from {min(found):.0f} to {max(found):.0f}")
    first, *others = sides
    for name in others:
        ratios = [new / old for old, new in zip(speeds[first], speeds[name])]
        print(f"{name}, ratio: {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
        ratios = [old / new for old, new in zip(seconds[first], seconds[name])]  # waiting for others is not counted
        print(f"  of CPU seconds: {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    trained = now.batch_size * arguments.steps * (arguments.rounds + 1)
    print(f"largest difference of a weight of the first two after {trained:,} pairs: "
          f"{float((ends[0] - ends[1]).abs().max()):.1e}")  # fmt: skip


if __name__ == "__main__":
    main()
