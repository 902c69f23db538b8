"""The closed loop on MovieLens-1M: the gain of ranking models from an encoder that the ranking loss trained.

The first turn embeds the catalog, fits codes, and trains a ranking model with a Fusion-Q-Former. Then ``export_encoder``
makes the Fusion-Q-Former the next encoder version, the catalog is embedded again, codebooks are refitted with stable IDs,
and a release is published. The jobs do all of it. Ranking models that read codes are trained on both releases, on the
published split and with the same seeds, and the last columns show the paired differences.
Data: ``$QARM_DATA/ml1m`` or ``../shared/data/ml1m``. ::

    python benchmarks/close_loop.py                        # from the frozen encoder
    python benchmarks/close_loop.py --encoder aligned      # from the encoder that was aligned on item pairs
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from ranking_ml1m.pipeline import DATA, PROJECTS, open_project
from ranking_ml1m.training import train
from ranking_ml1m.variants import BASE, EM3, ROWS, TRACKS, Row, options
from ranking_project.jobs import prepared, run_jobs
from ranking_project.world import World, load

COMPARED = {
    "+ aligned RQ": "+ RQ",
    "+ VQ": "+ VQ",
    "+ RQ and VQ with match": "+ RQ and VQ with match",
}
METRICS = ("auc", "user_auc")


def settings_of(encoder: str) -> dict[str, dict]:
    """Return the settings of a project that also trains the fusion, with the options of the benchmark."""
    how = options(seed=0, threads=2)
    named = ("epochs", "patience", "batch_size", "learning_rate", "weight_decay")
    ranking = {name: getattr(how, name) for name in named}
    return {**PROJECTS[encoder], "ranking": {**ranking, "variants": {"EM3": {**BASE, **TRACKS["A"], **EM3}}}}


def turn(context) -> str:
    """Train the fusion, make it the next encoder and publish its codes. Return the remarks of the jobs."""
    from qarm_features.jobs.assign_semantic_ids import assign_semantic_ids
    from qarm_features.jobs.build_training_set import build_training_set
    from qarm_features.jobs.command import run_job
    from qarm_features.jobs.embed_items import embed_items
    from qarm_features.jobs.export_encoder import export_encoder
    from qarm_features.jobs.find_nearest_items import find_nearest_items
    from qarm_features.jobs.fit_codebooks import fit_codebooks
    from qarm_features.jobs.publish_features import publish_features
    from qarm_features.jobs.train_ranking_model import train_ranking_model

    made = (train_ranking_model, export_encoder, embed_items, fit_codebooks)
    served = (assign_semantic_ids, publish_features, build_training_set, find_nearest_items)
    said = [f"{job.name}: {run_job(job, context).remark}" for job in made]
    for job in served:
        run_job(job, context)
    return "\n".join(said)


def compare(row: Row, turns: list[World], seeds: int, threads: int) -> None:
    """Print the metrics of a row on the test split after each turn, and the paired difference."""
    runs = [[train(row, "A", world, seed=seed, threads=threads)["test"] for world in turns] for seed in range(seeds)]
    values = np.array([[[run[metric] for metric in METRICS] for run in seed_runs] for seed_runs in runs])
    shown = [f"{COMPARED[row.name]:28}"]
    for index in range(len(turns)):
        for metric in range(len(METRICS)):
            shown.append(_shown(values[:, index, metric], ".4f"))
    gaps = values[:, -1] - values[:, 0]
    shown += [_shown(gaps[:, metric], "+.4f") for metric in range(len(METRICS))]
    print("  ".join(shown), flush=True)


def _shown(values: np.ndarray, form: str) -> str:
    return f"{values.mean():{form}}±{values.std(ddof=1) if len(values) > 1 else 0:.4f}"


def main() -> None:
    """Run one turn of the loop and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=list(PROJECTS), default="unaligned", help="encoder of the first turn")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is absent: set QARM_DATA to a folder that holds ml1m. Skipped.")
    with tempfile.TemporaryDirectory() as folder:
        context = open_project(Path(folder) / "project", settings_of(arguments.encoder))
        run_jobs(context)
        first = load(prepared(context))
        print(turn(context), flush=True)
        turns = [first, load(prepared(context))]
    print(
        f"\nTest, {arguments.seeds} seeds, mean ± deviation: AUC and UAUC with the first encoder, with the next, gain of each"
    )
    for row in ROWS:
        if row.name in COMPARED:
            compare(row, turns, arguments.seeds, arguments.threads)


if __name__ == "__main__":
    main()
