"""The gain of each idea of QARM and EM3 on labeled exposures of a grocery chain, The Complete Journey.

The jobs make everything: from the catalog and the log they make embeddings, aligned on purchases of the train weeks or
frozen, then RQ codes, VQ codes and content tokens, and point-in-time training rows. Weeks 1 to 40 train, 41 to 45 choose the
epoch, 46 to 53 test. Households buy the same products again, and every model reads how often, so that the differences show
what content adds. Exposures are inferred and the data simulated from real patterns: the output says more.

Each trained model is written to ``--folder`` at once, and a second run continues after the last one.
Data: ``$QARM_DATA/completejourney`` or ``../shared/data/completejourney``. ::

    python benchmarks/ranking_completejourney.py --dry-run
    python benchmarks/ranking_completejourney.py --folder runs                              # one encoder, codebook and seed
    python benchmarks/ranking_completejourney.py --folder runs --encoders 3 --codebooks 3 --seeds 2
    python benchmarks/ranking_completejourney.py --folder runs --independent 3              # 3 runs that share none of these
    python benchmarks/ranking_completejourney.py --folder runs --households-share 0.25 --rows "item IDs" "all"
    python benchmarks/ranking_completejourney.py --folder runs --train-share 0.25           # a quarter trains, all are tested
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import tempfile
import time
from pathlib import Path

import torch
from ranking_completejourney import pipeline
from ranking_completejourney.baselines import baselines
from ranking_completejourney.past_counts import PastCounts, past_counts
from ranking_completejourney.report import CAUTIONS, Report
from ranking_completejourney.results import Results, data_fingerprint, estimate, fingerprint
from ranking_completejourney.rows import LENGTH
from ranking_completejourney.slices import slices_of_test
from ranking_completejourney.source import DATA, Source, missing_files, read_source, split_of, with_train_share
from ranking_completejourney.training import train
from ranking_completejourney.variants import BASE, ROWS, Run, independent_runs_of, options, runs_of
from ranking_completejourney.worlds import Worlds

from qarm_features import __version__


def key_of(run: Run, data: str, arguments: argparse.Namespace) -> str:
    """Return the fingerprint of all that decides the result of a run, without what only changes its speed."""
    how = dataclasses.asdict(options(run.seed, 1, arguments.epochs))
    encoders = [pipeline.settings_of(encoder) for encoder in dict.fromkeys([None, run.encoder])]
    shares = [arguments.households_share, *([arguments.train_share] if arguments.train_share < 1 else [])]
    return fingerprint([data, *shares, run[1:], BASE, run.row, how, encoders, LENGTH, __version__])


def measured(source: Source, counts: PastCounts) -> Report:
    """Return the measures of the test rows."""
    test_rows = source.impressions[split_of(source.impressions.week) == "test"]
    slices = slices_of_test(source.impressions, counts.bought)
    return Report(test_rows.label.to_numpy(), test_rows.household_id.to_numpy(), slices)


def main() -> None:
    """Show the baselines, train the runs that are not finished, and print the table."""
    arguments = _arguments()
    missing = missing_files(arguments.data)
    if missing:
        print(missing)
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    torch.set_num_threads(arguments.threads)
    rows = [row for row in ROWS if arguments.rows is None or row.name in arguments.rows]
    numbers = {name: getattr(arguments, name) for name in ("encoders", "codebooks", "seeds")}
    data, alone = data_fingerprint(arguments.data), arguments.independent
    chosen = [run for row in rows for run in (independent_runs_of(row, alone) if alone else runs_of(row, **numbers))]
    runs = [(run, key_of(run, data, arguments)) for run in chosen]
    share = f"{arguments.households_share:g}"
    results = Results(arguments.folder / f"results-{share}")
    if arguments.dry_run:
        lines, minutes = estimate(results, runs)
        print("\n".join(lines))
        print("in all: " + ("time unknown" if minutes is None else f"about {minutes:.0f} min") + ", without the jobs")
        return
    whole = read_source(arguments.data, households_share=arguments.households_share)
    source = with_train_share(whole, arguments.train_share)
    counts = past_counts(source, source.impressions)
    report = measured(source, counts)
    print(CAUTIONS)
    print(
        f"{share} of the households, of which {arguments.train_share:g} train, histories of at most {LENGTH} purchases"
    )
    report.show_slices()
    report.show_header()
    for name, score in baselines(source, counts).items():
        report.show_row(name, [report.aucs(score)])
    worlds = Worlds(arguments.folder / f"projects-{share}", whole, source.impressions, counts)
    found: dict[str, list] = {}
    for number, (run, key) in enumerate(runs, 1):
        finished = results.find(run, key)
        if finished is None:
            logging.info("%d of %d: %s", number, len(runs), run.name)
            started = time.perf_counter()
            world, codes = worlds.of(run)
            logging.info("prepared in %.0f s", time.perf_counter() - started)
            figures, logit = train(run, world, codes, report.slices, threads=arguments.threads, epochs=arguments.epochs)
            shares = {name: getattr(arguments, name) for name in ("households_share", "train_share")}
            results.write(run, key, {**figures, **shares}, logit)
            finished = {**figures, "logit": logit}
        found.setdefault(run.row.name, []).append((run, finished))
        if number == len(runs) or runs[number][0].row != run.row:
            report.show_row(run.row.name, [figures["test"] for _, figures in found[run.row.name]])
    report.show_claims(found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(tempfile.gettempdir()) / "ranking_completejourney"
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the three files")
    parser.add_argument("--folder", type=Path, default=default, help="folder of the projects and the results")
    parser.add_argument(
        "--rows", nargs="*", metavar="ROW", help="rows of the table, by default all; none after --rows alone"
    )
    parser.add_argument("--encoders", type=int, default=1, help="number of seeds of the aligned encoder")
    parser.add_argument("--codebooks", type=int, default=1, help="number of seeds of the codebooks of each encoder")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds of the ranking model")
    parser.add_argument(
        "--independent", type=int, metavar="N",
        help="N runs of a row, each with an encoder, a codebook and a seed of its own, instead of all combinations",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, default=6, help="largest number of epochs, of which valid chooses one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--households-share", type=float, default=1.0, help="share of the households, by hash")
    parser.add_argument(
        "--train-share", type=float, default=1.0,
        help="share of these households, by hash, whose rows train the ranking model; valid and test keep all",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the runs and their time, and train nothing")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.rows or ()) - {row.name for row in ROWS})
    if unknown:
        parser.error(f"--rows names {', '.join(unknown)}, must be of: {', '.join(row.name for row in ROWS)}")
    for name in ("households_share", "train_share"):
        if not 0 < getattr(arguments, name) <= 1:
            option = "--" + name.replace("_", "-")
            parser.error(f"{option} is {getattr(arguments, name)}, must be above 0 and at most 1")
    return arguments


if __name__ == "__main__":
    main()
