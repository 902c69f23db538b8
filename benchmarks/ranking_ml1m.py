"""The gain of each idea of QARM and EM3 in the reference ranking model, on the published split of MovieLens-1M.

The jobs make everything: from the catalog and the log they make embeddings, aligned on the train split or frozen, then RQ
codes, VQ codes and content tokens, and point-in-time training rows. Models are trained on train, chosen on valid, and tested
once per seed. Track A uses only a user's past positives, as the published table does. Track B also uses the labels of all
past impressions, and counters.
Data: ``$QARM_DATA/ml1m`` or ``../shared/data/ml1m``. ::

    python benchmarks/ranking_ml1m.py                                # both tracks, 5 seeds
    python benchmarks/ranking_ml1m.py --tracks A --rows "item IDs" "all" --seeds 2
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ranking_ml1m.measures import METRICS, four_counters, gain_over, item_rate, measure
from ranking_ml1m.neighbors import Neighbors
from ranking_ml1m.pipeline import DATA, PROJECTS, prepare
from ranking_ml1m.training import train
from ranking_ml1m.variants import ROWS, TRACKS
from ranking_project.world import World, load


def show(name: str, runs: list[dict], against: list[dict] | None) -> None:
    """Print mean and deviation of a row, and its paired difference to the row of item IDs over seeds."""
    parts = []
    for metric in METRICS:
        values = np.array([run["test"][metric] for run in runs])
        parts.append(f"{values.mean():.4f}±{values.std(ddof=1) if len(values) > 1 else 0:.4f}")
    line = f"{name:40} {'  '.join(parts)}"
    if "seconds" in runs[0]:
        valid = np.mean([run["valid"]["auc"] for run in runs])
        line += f"  {np.mean([run['seconds'] for run in runs]):6.1f} {runs[0]['parameters']:8,}  {valid:.4f}"
    if against is not None:
        gaps = np.array([a["test"]["auc"] - b["test"]["auc"] for a, b in zip(runs, against)])
        line += f"  {gaps.mean():+.4f}±{gaps.std(ddof=1) if len(gaps) > 1 else 0:.4f}"
    print(line, flush=True)


def show_neighbors(found: dict[str, list[dict]], neighbors: Neighbors) -> None:
    """Print how alike items and their 10 nearest items are, by embedding, as mean and deviation over seeds."""
    print(f"{'':40} content of few-click items   users of popular items")
    lines = {("at random", ""): [neighbors.at_random()]}
    for name, runs in found.items():
        for embedding in runs[0]["neighbors"]:
            lines[name, embedding] = [run["neighbors"][embedding] for run in runs]
    for (name, embedding), figures in lines.items():
        values = np.array([list(figure.values()) for figure in figures])
        deviation = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
        shown = "".join(f"{mean:.4f}±{spread:.4f}".ljust(29) for mean, spread in zip(values.mean(axis=0), deviation))
        print(f"{name + (', ' + embedding if embedding else ''):50} {shown}", flush=True)


def run_track(track: str, worlds: dict[str, World], arguments: argparse.Namespace) -> dict:
    """Run all rows of a track and print its table."""
    test, world = worlds["unaligned"].rows["test"], worlds["unaligned"]
    print(f"\nTrack {track}, test, {arguments.seeds} seeds: mean ± deviation over seeds")
    print(f"{'':40} AUC            UAUC           few clicks     few shown      new users      s/epoch params "
          "    valid   AUC - item IDs")  # fmt: skip
    counters = four_counters(world)["test"]
    for name, logit in {"the item's rate alone": item_rate(test, world), "LR on four counters": counters}.items():
        show(name, [{"test": measure(logit, test, world)}], None)
    found: dict[str, list[dict]] = {}
    neighbors = Neighbors(world, np.asarray(world.features.vectors))
    for row in ROWS:
        if arguments.rows and row.name not in arguments.rows:
            continue
        found[row.name] = [
            train(row, track, worlds[row.project], seed=seed, threads=arguments.threads, neighbors=neighbors)
            for seed in range(arguments.seeds)
        ]
        show(row.name, found[row.name], found.get("item IDs") if row.name != "item IDs" else None)
        gain = gain_over([run["logit"] for run in found[row.name]], [counters], test)
        print(f"{'':6}mean of {arguments.seeds} seeds against LR on four counters: AUC {gain.auc:+.4f}, 95% by redrawn "
              f"users and seeds [{gain.low:+.4f}, {gain.high:+.4f}]", flush=True)  # fmt: skip
    show_neighbors(found, neighbors)
    return {name: [{k: v for k, v in run.items() if k != "logit"} for run in runs] for name, runs in found.items()}


def main() -> None:
    """Prepare both projects, train all rows and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", nargs="+", choices=list(TRACKS), default=list(TRACKS))
    parser.add_argument(
        "--rows", nargs="+", choices=[row.name for row in ROWS], help="rows of the table, by default all"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="folder of the projects, by default a temporary one")
    parser.add_argument("--json", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is absent: set QARM_DATA to a folder that holds ml1m. Skipped.")
    with tempfile.TemporaryDirectory() as temporary:
        folder, started = arguments.folder or Path(temporary), time.perf_counter()
        worlds = {name: load(prepare(folder / name, name)) for name in PROJECTS}
        print(f"prepared in {time.perf_counter() - started:.0f} s: " + ", ".join(
            f"{split} {len(rows.label):,}" for split, rows in worlds["unaligned"].rows.items()))  # fmt: skip
        figures = {track: run_track(track, worlds, arguments) for track in arguments.tracks}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
