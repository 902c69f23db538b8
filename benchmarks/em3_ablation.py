"""What each part of EM3 brings on MovieLens-1M, and what the Content-ID-Contrastive loss (CIC) brings in which setting.

Track A of ``ranking_ml1m.py``: item IDs, item rates and only the past positives of a user. First every row is trained
with one seed and measured on valid; its test rows are not scored. Then the test rows are scored for item IDs, EM3, EM3
with the former CIC, EM3 with the CIC that is best on valid, the best row of all without CIC, the codes, and codes and EM3
together ("all without CIC"), with three seeds. The interval of a gain is over redrawn users, for the mean of the seeds'
AUCs.

Each trained row is a file of results, and a row whose file is there is not trained again: the command can be stopped and
repeated.
Data: ``$QARM_DATA/ml1m`` or ``../shared/data/ml1m``. ::

    python benchmarks/em3_ablation.py --folder projects --results results
    python benchmarks/em3_ablation.py --folder projects --results results --rows "EM3" "EM3 of 128" --no-test
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
from ranking_completejourney.intervals import holm
from ranking_ml1m.em3_rows import ALL, CIC, CODES, NO_CIC, OLD_CIC, PARTS, ROWS, Row
from ranking_ml1m.measures import gain_over, measure
from ranking_ml1m.neighbors import Neighbors, interval_of_difference
from ranking_ml1m.pipeline import DATA, prepare
from ranking_ml1m.training import logits_of, train_em3_row
from ranking_project.world import World, load

from qarm_features.ranking import RankingModel

_METRICS = ("auc", "user_auc", "few_click", "new_user")


def trained(row: Row, seed: int, world: World, results: Path, threads: int, *, test: bool) -> dict:
    """Return the figures of a row, and with ``test`` those of the test rows; train it if it is not stored yet."""
    file = results / f"{_stem(row, seed)}.json"
    if file.is_file():
        found, model = json.loads(file.read_text()), None
    else:
        started = time.perf_counter()
        model, fitted = train_em3_row(row, world, seed=seed, threads=threads)
        ratios = [epoch["content_id_gradient_ratio"] for epoch in fitted.epochs if "content_id_gradient_ratio" in epoch]
        found = {
            "valid": measure(logits_of(model, world.rows["valid"]), world.rows["valid"], world),
            "best_epoch": fitted.best_epoch,
            "curve": [round(epoch["valid"]["auc"], 4) for epoch in fitted.epochs],
            "cic_by_log_loss": [round(ratio, 3) for ratio in ratios],
            "rows_per_second": float(np.median([epoch["rows_per_second"] for epoch in fitted.epochs])),
            "seconds": round(time.perf_counter() - started, 1),
        }
        model.save_pretrained(file.with_suffix(""))
        file.write_text(json.dumps(found, indent=1))
    if test and "test" not in found:
        logit = logits_of(model or _model(row, seed, world, results), world.rows["test"])
        np.save(file.with_suffix(".npy"), logit)
        found["test"] = measure(logit, world.rows["test"], world)
        file.write_text(json.dumps(found, indent=1))
    return found


def choose(rows: list[Row], world: World, results: Path, threads: int) -> list[Row]:
    """Print the valid figures of rows, and return the best row with CIC and the best one without, where there are such."""
    print(f"\nvalid, seed 0: {'':47} AUC     best pass  CIC by log loss (gradient on item IDs)  curve")
    auc: dict[str, float] = {}
    for row in rows:
        found = trained(row, 0, world, results, threads, test=False)
        auc[row.name] = found["valid"]["auc"]
        ratios = found["cic_by_log_loss"]
        said = f"{ratios[0]:8.2f} to {ratios[-1]:8.2f}" if ratios else " " * 20
        print(f"{row.name:62} {auc[row.name]:.4f}  {found['best_epoch']:3}  {said}  {found['curve']}", flush=True)
    kinds = ([row for row in rows if row in kind] for kind in (CIC, PARTS))
    return [max(of_kind, key=lambda row: auc[row.name]) for of_kind in kinds if of_kind]


def report(chosen: list[Row], world: World, results: Path, threads: int, seeds: int) -> None:
    """Print the test figures of the chosen rows, the gain of CIC, and the neighbors of items."""
    print(f"\ntest, {seeds} seeds: {'':44} " + "  ".join(f"{name:13}" for name in _METRICS))
    for row in chosen:
        tests = [trained(row, seed, world, results, threads, test=True)["test"] for seed in range(seeds)]
        values = np.array([[test[name] for name in _METRICS] for test in tests])
        spread = values.std(axis=0, ddof=1) if seeds > 1 else np.zeros(len(_METRICS))
        shown = "  ".join(f"{mean:.4f}±{deviation:.4f}" for mean, deviation in zip(values.mean(axis=0), spread))
        print(f"{row.name:62} {shown}", flush=True)
    show_gains(chosen, world, results, seeds)
    show_neighbors(chosen, world, results, seeds)


def show_gains(chosen: list[Row], world: World, results: Path, seeds: int) -> None:
    """Print the gain of each row over EM3 without CIC and over item IDs, with an interval and Holm's p-value."""
    logits = {row.name: [np.load(results / f"{_stem(row, seed)}.npy") for seed in range(seeds)] for row in chosen}
    rows, claims = world.rows["test"], {}
    for row in chosen:
        for other in (NO_CIC, PARTS[0], *([CODES] if row is ALL and CODES in chosen else [])):
            if row is not other and (other, row) != (NO_CIC, PARTS[0]):
                claims[f"{row.name}, over {other.name}"] = gain_over(logits[row.name], logits[other.name], rows)
    corrected = holm({name: gain.p for name, gain in claims.items()})
    print("\nmean of the seeds' AUCs, 95% by redrawn users and by seeds, p after Holm")
    for name, gain in claims.items():
        print(f"{name:75} {gain.auc:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]  p {corrected[name]:.3f}", flush=True)


def show_neighbors(chosen: list[Row], world: World, results: Path, seeds: int) -> None:
    """Print what an item and its 10 nearest items share, and the interval over items of the difference to EM3 without CIC."""
    neighbors = Neighbors(world, np.asarray(world.features.vectors))
    print(f"\nan item and its 10 nearest items, {seeds} seeds: content of few-click items, users of popular items")
    print(f"{'at random':62} " + "  ".join(f"{value:.4f}" for value in neighbors.at_random().values()))
    of_row = {
        row.name: [neighbors.of_items(_model(row, seed, world, results)) for seed in range(seeds)] for row in chosen
    }
    for name, found in of_row.items():
        for embedding in found[0]:
            figures = [np.mean([run[embedding][figure] for run in found], axis=0) for figure in range(2)]
            line = f"{f'{name}, {embedding}':62} " + "  ".join(f"{figure.mean():.4f}" for figure in figures)
            if name != NO_CIC.name and embedding in of_row[NO_CIC.name][0]:
                for figure, values in enumerate(figures):
                    base = np.mean([run[embedding][figure] for run in of_row[NO_CIC.name]], axis=0)
                    low, high = interval_of_difference(values, base)
                    line += f"  [{low:+.4f}, {high:+.4f}]"
            print(line, flush=True)


def _model(row: Row, seed: int, world: World, results: Path) -> RankingModel:
    model = RankingModel.from_pretrained(str(results / _stem(row, seed)))
    model.set_item_features(world.features)
    return model.eval()


def _stem(row: Row, seed: int) -> str:
    return f"{re.sub('[^a-zA-Z0-9]+', '_', row.name)}_seed_{seed}"


def main() -> None:
    """Prepare the aligned project, train what is not stored yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the project, made if it is not there")
    parser.add_argument("--results", type=Path, required=True, help="folder of one file per trained row")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the rows that are tested")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--rows", nargs="+", choices=list(ROWS), metavar="ROW", default=list(ROWS), help="choose among these rows alone"
    )
    parser.add_argument("--no-test", action="store_true", help="train the rows on valid and stop")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is absent: set QARM_DATA to a folder that holds ml1m. Skipped.")
    world = load(prepare(arguments.folder / "aligned", "aligned"))
    arguments.results.mkdir(parents=True, exist_ok=True)
    best = choose([ROWS[name] for name in arguments.rows], world, arguments.results, arguments.threads)
    if arguments.no_test:
        return
    with_codes = [row for row in (CODES, ALL) if row.name in arguments.rows]
    chosen = list(dict.fromkeys([row.name for row in (PARTS[0], NO_CIC, OLD_CIC, *best, *with_codes)]))
    report([ROWS[name] for name in chosen], world, arguments.results, arguments.threads, arguments.seeds)


if __name__ == "__main__":
    main()
