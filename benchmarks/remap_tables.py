"""What ``remap`` preserves of a trained ranking model when codebooks are fitted from scratch, on MovieLens-1M.

A model with item IDs and RQ codes of the aligned encoder is trained on codebooks v0. Then codebooks are fitted to the same
embeddings from scratch with another seed, so that every code has another meaning, and every row gets its new codes. The
output is the test AUC of the model without training, with its table of codes remapped, drawn again, and unchanged (which the
version fence refuses), then after one epoch of training, and of a model trained on the new codes from scratch.
Data: ``$QARM_DATA/ml1m`` or ``../shared/data/ml1m``. ::

    python benchmarks/remap_tables.py
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from ranking_ml1m.measures import measure
from ranking_ml1m.pipeline import DATA, PROJECTS, open_project
from ranking_ml1m.training import make_model
from ranking_ml1m.variants import ROWS, options
from ranking_project.jobs import prepared, run_jobs
from ranking_project.model import fit_model, logits_of
from ranking_project.world import World, load

from qarm_features.quantizers import ResidualKMeans
from qarm_features.quantizers.arrays.lloyd import assign_codes
from qarm_features.ranking import RankingBatch, RankingModel, remap


def fitted_anew(context, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return codebooks (L, K, D) of the release, and others that are fitted to the same embeddings from scratch."""
    from qarm_features.semantic_ids.assign import load_codebooks
    from qarm_features.storage.tables import ITEM_EMBEDDINGS

    artifact = context.artifacts("codebooks").latest()
    old = load_codebooks(artifact).codebooks
    rows = context.warehouse.read(ITEM_EMBEDDINGS).where(f"encoder_version = {artifact.manifest['encoder_version']}")
    kmeans = ResidualKMeans(numLevels=len(old), codebookSize=size, seed=context.settings.seed + 1)
    return old, kmeans.fit(rows.select("embedding")).codebooks


def recoded(rows: RankingBatch, codes: torch.Tensor) -> RankingBatch:
    """Replace the codes of rows by the codes (I + 1, L) of their items. Missing codes stay missing."""
    return rows._replace(
        item_codes=torch.where(rows.item_codes < 0, -1, codes[rows.item_index]),
        behavior_codes=torch.where(rows.behavior_codes < 0, -1, codes[rows.behavior_index]),
    )


def with_table(model: RankingModel, table: torch.nn.Module) -> RankingModel:
    """Return a copy of the model with another table of codes."""
    other = copy.deepcopy(model)
    other.items.semantic_ids = table
    return other


def run(world: World, old: np.ndarray, new: np.ndarray, *, seed: int, threads: int) -> dict[str, float]:
    """Return the test AUC of each variant by name."""
    vectors = np.ascontiguousarray(world.features.vectors, dtype=np.float32)
    codes = torch.from_numpy(assign_codes(vectors, new)).long()
    rows = {split: recoded(batch, codes) for split, batch in world.rows.items()}
    row, how = next(row for row in ROWS if row.name == "+ aligned RQ"), options(seed, threads)
    model = make_model(row, "A", world, seed=seed)
    drawn = copy.deepcopy(model.items.semantic_ids)
    fit_model(model, world.rows, how)
    table = remap(
        model.items.semantic_ids, old, new, codebook_version=int(model.items.semantic_ids.codebook_version) + 1
    )
    models = {name: with_table(model, codes) for name, codes in {"remapped": table, "drawn again": drawn}.items()}

    def auc(tested: RankingModel, test: RankingBatch) -> float:
        return measure(logits_of(tested, test), test, world)["auc"]

    found = {"codebooks v0": auc(model, world.rows["test"])}
    found |= {name: auc(other, rows["test"]) for name, other in models.items()}
    found["unchanged"] = auc(model, rows["test"])
    for name, other in models.items():
        fit_model(other, rows, dataclasses.replace(how, epochs=1))
        found[f"{name}, one epoch"] = auc(other, rows["test"])
    fresh = make_model(row, "A", world, seed=seed)
    fit_model(fresh, rows, how)
    return {**found, "trained from scratch": auc(fresh, rows["test"])}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="folder of the prepared project, by default a temporary one")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is absent: set QARM_DATA to a folder that holds ml1m. Skipped.")
    with tempfile.TemporaryDirectory() as temporary:
        context = open_project((arguments.folder or Path(temporary)) / "aligned", PROJECTS["aligned"])
        run_jobs(context)
        world = load(prepared(context))
        old, new = fitted_anew(context, world.codes["codebook_size"])
        found = [run(world, old, new, seed=seed, threads=arguments.threads) for seed in range(arguments.seeds)]
    print(f"test AUC, {arguments.seeds} seeds, mean ± deviation; paired difference to codebooks v0")
    for name in found[0]:
        values = np.array([aucs[name] for aucs in found])
        gaps = values - np.array([aucs["codebooks v0"] for aucs in found])
        spread = (values.std(ddof=1), gaps.std(ddof=1)) if len(found) > 1 else (0, 0)
        print(f"{name:24} {values.mean():.4f}±{spread[0]:.4f}  {gaps.mean():+.4f}±{spread[1]:.4f}")


if __name__ == "__main__":
    main()
