"""Training of EM3's variants: the step as it was against the step as it is, on the same rows and from the same weights.

A round is one pass over some batches: forward, backward and AdamW. Both ways take turns, and the ratio is that of their
median rounds, so that other work on the machine hits both; the ratio of CPU seconds depends on it least. After the first
round the losses of both ways are compared.
``of 16`` are the rows of the table of ``ranking_ml1m.py``, whose content is 16 numbers wide and which read only numbers of
the history; the others are the variants by name of ``qarm.yaml``. Rows and items are drawn at random in the shape of
MovieLens-1M, see ``rows.py``. With ``--items-per-content`` so many items have the same content, and the step that encodes
each item is measured against the step that encodes each content once. ::

    python benchmarks/em3_training.py
    python benchmarks/em3_training.py --items-per-content 4
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from em3_training.rows import CODES, LEVELS, NUM_KNOWN, WIDTH, first_rows, item_features, random_rows
from em3_training.way_before import way_before
from ranking_ml1m.variants import BASE
from ranking_ml1m.variants import ROWS as ML1M

from qarm_features.ranking import ItemFeatures, RankingBatch, RankingModel, TrainingOptions
from qarm_features.ranking.model.variants import VARIANTS
from qarm_features.ranking.train.optimizer import optimizer_of

_OF_16 = {row.name: {**BASE, **row.switches} for row in ML1M}
MODELS = {
    "+EM3, B 1024": (VARIANTS["+EM3"], 1024),
    "all, B 1024": (VARIANTS["all"], 1024),
    "EM3 of 16, B 512": (_OF_16["+ EM3 without CIC"], 512),
    "all of 16, B 512": (_OF_16["all"], 512),
}
_CLOSE = 1e-3  # nats, after a round of steps; rounding grows with each of them


class Trained:
    """A model and its optimizer."""

    def __init__(self, model: RankingModel) -> None:
        self.model, self.optimizer = model.train(), optimizer_of(model, TrainingOptions())

    def round(self, batches: list[RankingBatch], *, seed: int) -> tuple[float, float, float]:
        """Make one pass; return its seconds, the CPU seconds of all threads, and the mean loss."""
        torch.manual_seed(seed)  # both ways drop the same numbers
        started, of_cpu, total = time.perf_counter(), time.process_time(), 0.0
        for batch in batches:
            loss = self.model.losses(batch).total
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach())
        return time.perf_counter() - started, time.process_time() - of_cpu, total / len(batches)


def compare(name: str, features: ItemFeatures, rng: np.random.Generator, options: argparse.Namespace) -> None:
    """Train a model both ways and print rows per second and the ratio."""
    switches, size = MODELS[name]
    torch.manual_seed(0)
    codes = {"num_levels": LEVELS, "codebook_size": CODES}
    model = RankingModel(num_items=NUM_KNOWN, **codes, vector_dim=WIDTH, token_dims={"text": WIDTH}, **switches)
    model.set_item_features(features)
    shown = rng.integers(0, 20, NUM_KNOWN + 1)
    model.set_item_counts(shown // 2, shown)
    batches = [random_rows(size, rng) for _ in range(options.batches)]
    before, ours, way = Trained(copy.deepcopy(model)), Trained(model), way_before
    if options.items_per_content > 1:
        way = nullcontext  # only the rows of the store differ
        ours.model.set_item_features(sharing_rows(features, options.items_per_content))
    seconds: dict[str, list[float]] = {"before": [], "ours": []}
    cpu: dict[str, list[float]] = {"before": [], "ours": []}
    for number in range(options.rounds + 1):
        with way():
            of_before, cpu_before, loss_before = before.round(batches, seed=number)
        of_ours, cpu_ours, loss_ours = ours.round(batches, seed=number)
        if number == 0:  # not timed
            if abs(loss_before - loss_ours) > _CLOSE:
                raise AssertionError(f"{name}: the loss was {loss_before:.6f} and is {loss_ours:.6f}.")
            continue
        seconds["before"].append(of_before)
        seconds["ours"].append(of_ours)
        cpu["before"].append(cpu_before)
        cpu["ours"].append(cpu_ours)
    rows = size * options.batches
    speed = {way: rows / np.median(times) for way, times in seconds.items()}
    ratios = [a / b for a, b in zip(seconds["before"], seconds["ours"])]
    print(
        f"{name:20} before {speed['before']:7,.0f} rows/s, ours {speed['ours']:7,.0f} rows/s, ratio of medians "
        f"{speed['ours'] / speed['before']:.2f} (single rounds {min(ratios):.2f} to {max(ratios):.2f}), of CPU seconds "
        f"{np.median(cpu['before']) / np.median(cpu['ours']):.2f}, "
        f"loss {loss_before:.5f} and {loss_ours:.5f}",
        flush=True,
    )


def sharing_rows(features: ItemFeatures, items_per_content: int) -> ItemFeatures:
    """Return features whose items with the same content have the same row of the content store."""
    shared = copy.copy(features)
    shared.content_rows = np.append(-1, first_rows(items_per_content))
    return shared


def main() -> None:
    """Print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=4, help="batches of a round")
    parser.add_argument("--items-per-content", type=int, default=1, help="number of items with the same content")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    print(
        f"{options.threads} threads, load {os.getloadavg()[0]:.1f}, {options.rounds} rounds of {options.batches} batches"
    )
    with tempfile.TemporaryDirectory() as folder:
        features = item_features(Path(folder), rng, items_per_content=options.items_per_content)
        for name in options.models:
            compare(name, features, rng, options)


if __name__ == "__main__":
    main()
