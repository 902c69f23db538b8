"""Training of item IDs: AdamW over the whole table against updates of the rows that a batch names, by size of the catalog.

A round is one pass over some batches of the default model: forward, backward and the step of the optimizer. Both ways start
from the same weights and take turns, and the ratio is that of their median rounds, so that other work on the machine hits
both. Items are drawn by a power law, as in a log. With ``--project``, models are trained both ways on the training rows of a
project instead, and their AUC on its test rows is printed: what the speed costs. ::

    python benchmarks/sparse_ids.py
    python benchmarks/sparse_ids.py --items 10_000 1_000_000 --rounds 5
    make demo && python benchmarks/sparse_ids.py --project demo --seeds 5
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from qarm_features.feature_store.publishing.release_manifest import promoted_release
from qarm_features.ranking import RankingBatch, RankingModel, TrainingOptions, train_ranking_model
from qarm_features.ranking.model.variants import VARIANTS
from qarm_features.ranking.train.optimizer import optimizers_of
from qarm_features.settings.load import load_settings
from qarm_features.storage.tables import TRAINING_ROWS
from qarm_features.storage.warehouse import Warehouse

LEVELS, CODES, BEHAVIORS, ROWS = 3, 256, 50, 1024


class Trained:
    """A model with its optimizers."""

    def __init__(self, model: RankingModel, *, sparse: bool) -> None:
        self.model, self.optimizers = model.train(), optimizers_of(model, TrainingOptions(sparse_ids=sparse))

    def round(self, batches: list[RankingBatch]) -> float:
        """Make one pass and return its seconds."""
        started = time.perf_counter()
        for batch in batches:
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            self.model.losses(batch).total.backward()
            for optimizer in self.optimizers:
                optimizer.step()
        return time.perf_counter() - started


def rows_of(items: int, generator: torch.Generator) -> RankingBatch:
    """Return rows of items that follow a power law: half of them are of a quarter of the items."""

    def drawn(*shape: int) -> torch.Tensor:
        return 1 + (items * torch.rand(shape, generator=generator) ** 2).long().clamp(max=items - 1)

    def codes(*shape: int) -> torch.Tensor:
        return torch.randint(0, CODES, (*shape, LEVELS), generator=generator)

    return RankingBatch(
        item_index=drawn(ROWS),
        item_codes=codes(ROWS),
        behavior_index=drawn(ROWS, BEHAVIORS),
        behavior_codes=codes(ROWS, BEHAVIORS),
        behavior_mask=torch.rand(ROWS, BEHAVIORS, generator=generator) < 0.6,
        label=torch.randint(0, 2, (ROWS,), generator=generator).float(),
        user_group=torch.arange(ROWS),
    )


def compare(items: int, options: argparse.Namespace) -> None:
    """Train both ways and print rows per second and the ratio."""
    torch.manual_seed(0)
    model = RankingModel(num_items=items, num_levels=LEVELS, codebook_size=CODES)
    generator = torch.Generator().manual_seed(0)
    batches = [rows_of(items, generator) for _ in range(options.batches)]
    ways = {"dense": Trained(copy.deepcopy(model), sparse=False), "sparse": Trained(model, sparse=True)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, trained in ways.items():
            took = trained.round(batches)
            if number:  # the first round allocates
                seconds[name].append(took)
    rows = ROWS * len(batches)
    dense, sparse = (rows / statistics.median(seconds[name]) for name in ways)
    print(
        f"{items:>10,} items: {dense:>9,.0f} rows/s dense, {sparse:>9,.0f} sparse, ratio {sparse / dense:.2f}",
        flush=True,
    )


def compare_quality(options: argparse.Namespace) -> None:
    """Train on the rows of a project with each seed both ways, and print the test AUCs and their differences."""
    settings = load_settings(options.project / "qarm.yaml")
    release = promoted_release(settings)
    assert release is not None, "the project has no promoted release"
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    of_version = {"codebook_version": release.codebook_version}
    files = {
        f"{split}_files": warehouse.files(TRAINING_ROWS, **of_version, split=split)
        for split in ("train", "valid", "test")
    }
    sizes = {"num_levels": release.num_levels, "codebook_size": release.codebook_size, **of_version}
    for name in ("item IDs", "item IDs + semantic IDs"):
        aucs: dict[bool, list[float]] = {False: [], True: []}
        for seed in range(options.seeds):
            for sparse, found in aucs.items():
                training = TrainingOptions(seed=seed, sparse_ids=sparse, num_threads=options.threads)
                with tempfile.TemporaryDirectory() as folder:
                    metrics = train_ranking_model(
                        **files, output_dir=folder, options=training, **sizes, **VARIANTS[name]
                    )
                found.append(metrics["test"]["auc"])
        dense, sparse_aucs = np.array(aucs[False]), np.array(aucs[True])
        more = sparse_aucs - dense
        print(
            f"{name}: test AUC {dense.mean():.4f} +- {dense.std(ddof=1):.4f} dense, {sparse_aucs.mean():.4f} +- "
            f"{sparse_aucs.std(ddof=1):.4f} sparse, difference of the same seed {more.mean():+.4f} +- {more.std(ddof=1):.4f}",
            flush=True,
        )


def main() -> None:
    """Compare at each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--project", type=Path, help="folder of a project with training rows")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.project:
        return compare_quality(options)
    for items in options.items:
        compare(items, options)


if __name__ == "__main__":
    main()
