"""A planted world: clicks depend on content with known strengths, so that the best possible AUC is known.

For each idea two worlds of 50,000 items, 50,000 users and 2 million impressions are made: one with the effect that the idea
can find, and one without it as a control. In both, reference ranking models are trained without the idea, among them the best
other use of the same data, and with it. The output is the gain over the best model without the idea, and its share of the
possible gain. The numbers of the world are not those of the models: 45 clusters of unequal sizes in 9 groups against codes of
32, and labels that depend on 17 impressions with decaying weights against a history of 12. ::

    python benchmarks/planted_world.py --seeds 3
    python benchmarks/planted_world.py --scale 0.1 --ideas depth --seeds 1
    python benchmarks/planted_world.py --ladder   # the ideas in the order of the papers, in a world with all effects
    python benchmarks/planted_world.py --oracle   # what each part of the logits contributes in that world
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from planted_world.ideas import COMPARED_WITH, EVERYTHING, IDEAS, LADDER, Idea
from planted_world.impressions import PARTS
from planted_world.kept import as_line, kept_trials
from planted_world.oracle import gain_of_each_part, oracle_auc
from planted_world.shares import ladder, table
from planted_world.trials import Trial, World, run_trial, sizes


def show_oracle(scale: float, seed: int) -> None:
    """Print the best possible AUC in the world with all effects, and how much lower it is without each part."""
    started = time.perf_counter()
    world = World(EVERYTHING, **sizes(scale), seed=seed)
    counts = (len(world.catalog.cluster), *world.seen.item.shape)
    seconds = time.perf_counter() - started
    print(f"{counts[0]:,} items, {counts[1]:,} users, {world.seen.item.size:,} impressions in {seconds:.1f} s")
    rows = world.seen.rows("test")
    parts, label = world.parts(rows), world.seen.label.ravel()[rows]
    print(f"best possible AUC of {len(rows):,} test rows {oracle_auc(parts, label, PARTS):.4f}")
    for name, gain in gain_of_each_part(parts, label).items():
        print(f"  without {name:10} {-gain:+.4f}")


def run_trials(
    asked: Sequence[tuple[Idea, bool, int]], *, scale: float, epochs: int, workers: int, results: Path | None
) -> list[Trial]:
    """Run trials of (idea, planted, seed) in processes of one thread each, and print each result.

    Args:
        asked: The trials.
        scale: Scale of the world.
        epochs: Largest number of epochs.
        workers: Number of processes.
        results: File that keeps the trials, so that those in it are not run again; None keeps none.
    """
    started, found = time.perf_counter(), kept_trials(results, scale, epochs)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [
            pool.submit(run_trial, idea, planted=planted, seed=seed, scale=scale, epochs=epochs)
            for idea, planted, seed in asked
            if (idea.name, planted, seed) not in found
        ]
        for future in as_completed(futures):
            trial = future.result()
            found[trial[:3]] = trial
            shown = as_line(trial, scale, epochs)
            print(f"{time.perf_counter() - started:6.0f} s {shown}", flush=True)
            if results is not None:
                with results.open("a") as lines:
                    lines.write(shown + "\n")
    return [found[idea.name, planted, seed] for idea, planted, seed in asked]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="scale of the numbers of items, users and impressions")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--epochs", type=int, default=1, help="largest number of epochs; the best one on the valid rows counts"
    )
    parser.add_argument("--results", type=Path, help="file that keeps the trials; those in it are not run again")
    parser.add_argument("--ideas", nargs="*", default=[], help="words in the names of the ideas to run, by default all")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument(
        "--ladder", action="store_true", help="the ideas in the order of the papers, in a world with all effects"
    )
    parser.add_argument(
        "--oracle", action="store_true", help="only print what each part contributes in the world with all effects"
    )
    args = parser.parse_args()
    if args.oracle:
        show_oracle(args.scale, seed=0)
        return
    options = {"scale": args.scale, "epochs": args.epochs, "workers": args.workers, "results": args.results}
    seeds = range(args.seeds)
    if args.ladder:
        trials = run_trials([(LADDER, True, seed) for seed in seeds], **options)
        for new_items in (True, False):
            print("\n".join(ladder(trials, COMPARED_WITH, new_items=new_items)))
        return
    ideas = [idea for idea in IDEAS if not args.ideas or any(word in idea.name for word in args.ideas)]
    trials = run_trials([(idea, kind, seed) for seed in seeds for idea in ideas for kind in (True, False)], **options)
    for new_items in (True, False):
        print("\n".join(table(trials, ideas, new_items=new_items)))


if __name__ == "__main__":
    main()
