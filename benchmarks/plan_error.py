"""What ``qarm plan`` predicts of each stage, beside what the stage takes at that size on this machine.

The stages of ``qarm run`` run on a synthetic project, one after another, with Redis as the online store.
Constants that were measured elsewhere predict the seconds of another machine, so measure them here first: ``make calibrate``.
The output is, for each stage, its processor seconds as predicted and as measured, their ratio, and the wall seconds, which
other programs of the machine lengthen.

    python benchmarks/plan_error.py                                              # 100 thousand items
    python benchmarks/plan_error.py --items 1_000_000 --constants plan_constants.json
    python benchmarks/plan_error.py --items 10_000_000 --stages ingest_catalog embed_items fit_codebooks
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from planning_runs.fitting import seconds_by_constants, work_of
from planning_runs.measured import STAGES, machine, measure
from planning_runs.world import World

from qarm_features.planning.sizes import EVENTS_PER_ITEM, EVENTS_PER_USER, usual_events, usual_users


def main() -> None:
    """Run the stages and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--items", type=int, default=100_000)
    arguments.add_argument("--events", type=int, help=f"{EVENTS_PER_ITEM} for each item by default")
    arguments.add_argument("--users", type=int, help=f"one for each {EVENTS_PER_USER} events by default")
    arguments.add_argument("--dim", type=int, default=256)
    arguments.add_argument("--codebook-size", type=int, default=256)
    arguments.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    arguments.add_argument("--constants", type=Path, help="those of the package by default")
    options = arguments.parse_args()
    events = options.events or usual_events(options.items)
    users = options.users or usual_users(events)
    world = World(options.items, events, users, dim=options.dim, codebook_size=options.codebook_size)
    report(world, tuple(options.stages), options.constants)


def report(world: World, stages: tuple[str, ...], file: Path | None) -> None:
    """Run the stages and print each as it ends."""
    from qarm_features.planning.constants import SHIPPED, load_constants

    known = load_constants(file or SHIPPED)
    age = known.age_days(datetime.now(UTC).date())
    print(f"constants of {known.measured_on} ({age} days ago) on {known.machine.processor}; this machine: {machine()}")
    print(json.dumps(known.runs))
    total = [0.0, 0.0]
    print(f"{'stage':20} {'predicted':>10} {'measured':>10} {'ratio':>6} {'wall':>8}", flush=True)
    for record in measure(world, stages):
        predicted, measured = predicted_seconds(record, known), record["cpu_seconds"]
        total = [total[0] + predicted, total[1] + measured]
        print(line(record["stage"], predicted, measured, record["wall_seconds"]), flush=True)
    print(line("together", *total))


def predicted_seconds(record: dict[str, Any], known: Any) -> float:
    """Return the processor seconds that the constants give for a stage, before they are shared among cores."""
    stage = known.of(record["stage"])
    return seconds_by_constants(work_of(record | {"iterations": None}), stage.cpu_seconds, stage.driver_seconds)


def line(stage: str, predicted: float, measured: float, wall: float | None = None) -> str:
    """Return a line of the table."""
    shown = "" if wall is None else f"{wall:8.1f}"
    return f"{stage:20} {predicted:10.1f} {measured:10.1f} {predicted / measured:6.2f} {shown}"


if __name__ == "__main__":
    main()
