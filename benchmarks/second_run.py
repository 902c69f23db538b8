"""A second run: what ``qarm run`` costs after a share of new items and new clicks arrived as new files.

A project of synthetic items and clicks is run up to the publication. Then 1% of items and of clicks are added as one file
each, and the run is repeated. Vectors are synthetic too (precomputed, 32 numbers around 256 centers), so embedding copies
them, and the figures are those of the flow and not of an encoder. Clicks come in sessions of five by one user within some
minutes. Those that are added are later than all others, and one in two of them names a new item.

Much of a small run does not grow with the data: Spark plans, starts tasks and commits. The same two runs of a tiny project
measure this fixed cost, and the last column is the share of the work above it.

The output has the seconds of each stage in both runs, with the share that the second needs, and beside them what Spark's
tasks counted in its event log: seconds, rows read from files, shuffled and written. On a loaded machine these say more than
the seconds of the clock. The start of Python and Spark is a line of its own.

    python benchmarks/second_run.py
    python benchmarks/second_run.py --items 50000 --clicks 500000 --share 0.01
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

DIM, CENTERS, SESSION, FILES = 32, 256, 5, 10
FIRST_DAY, DAYS = pd.Timestamp("2024-01-01"), 100
QARM = str(Path(sys.executable).with_name("qarm"))
SETTINGS = f"""\
items: {{path: catalog/items, format: parquet, title: title, text: [], precomputed: vector, precomputed_dim: {DIM}}}
interactions: {{path: catalog/log, format: parquet, label: rating, positive_from: 4}}
codebooks: {{num_levels: 3, codebook_size: 256, max_iter: 5}}
spark:
  conf:
    spark.driver.memory: "4g"
    spark.eventLog.enabled: "true"
    spark.eventLog.compress: "false"
    spark.eventLog.rolling.enabled: "false"
"""


class Stage(NamedTuple):
    """What a stage cost: seconds, and what Spark's tasks counted: rows, megabytes that they read, and their own seconds."""

    seconds: float
    rows: Counter[str]


def main() -> None:
    """Run twice and print both runs beside each other."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--items", type=int, default=1_000_000)
    arguments.add_argument("--clicks", type=int, default=10_000_000)
    arguments.add_argument("--share", type=float, default=0.01, help="share of new items and of new clicks")
    arguments.add_argument("--fixed-items", type=int, default=2_000, help="items of the project of the fixed cost")
    arguments.add_argument("--until", default="publish-features", help="last job of both runs")
    arguments.add_argument("--keep", type=Path, help="folder for the project; a temporary one by default")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        per_item = options.clicks // options.items
        how = {"share": options.share, "until": options.until}
        fixed = both_runs(Path(temporary) / "fixed", options.fixed_items, options.fixed_items * per_item, **how)
        folder = options.keep or Path(temporary) / "project"
        runs = both_runs(folder, options.items, options.clicks, **how)
    print(f"{options.items:,} items and {options.clicks:,} clicks; then {options.share:.1%} more of both")
    print(f"The fixed cost is that of {options.fixed_items:,} items.")
    print_table(runs, fixed)


def both_runs(folder: Path, items: int, clicks: int, *, share: float, until: str) -> tuple[dict[str, Stage], ...]:
    """Run a new project, add a share of items and clicks, run it again, and return what the stages cost in both runs."""
    write_project_of(folder, items, clicks)
    first = timed_run(folder, "first", until)
    new_items = int(items * share)
    add_items(folder, "new", range(items, items + new_items))
    add_clicks(folder, "new", int(clicks * share), clicks // 20, items, new_items=new_items, day=DAYS)
    return first, timed_run(folder, "second", until)


def write_project_of(folder: Path, items: int, clicks: int) -> None:
    """Write a catalog, a click log of one user for each 20 clicks, and settings."""
    from qarm_features.cli.new_project import write_project

    for name in ("items", "log"):
        (folder / "catalog" / name).mkdir(parents=True)
    for part, numbers in enumerate(np.array_split(np.arange(items), FILES)):
        add_items(folder, f"base-{part}", range(numbers[0], numbers[-1] + 1))
    for part in range(FILES):
        add_clicks(folder, f"base-{part}", clicks // FILES, clicks // 20, items, seed=part)
    events = (folder / "events").absolute()
    events.mkdir()
    (folder / "qarm.yaml").write_text(f"{SETTINGS}    spark.eventLog.dir: {events.as_uri()}\n")
    write_project(folder)


def add_items(folder: Path, name: str, numbers: range) -> None:
    """Add a file of items to the catalog, whole from the start."""
    centers = np.random.default_rng(0).normal(size=(CENTERS, DIM))
    noise = np.random.default_rng([1, numbers.start]).normal(size=(len(numbers), DIM))
    vectors = (centers[np.asarray(numbers) % CENTERS] + 0.5 * noise).astype(np.float32)
    titles = [f"item {number}" for number in numbers]
    rows = pd.DataFrame({"item_id": list(numbers), "title": titles, "vector": list(vectors)})
    rows.to_parquet(folder / "catalog" / "items" / f"{name}.parquet", index=False)


def add_clicks(
    folder: Path, name: str, clicks: int, users: int, items: int, *, new_items: int = 0, day: int = 0, seed: int = 99
) -> None:
    """Add a file of clicks: sessions of the first ``DAYS`` days, or of one day, on old items or on new ones too."""
    chance = np.random.default_rng([2, seed])
    sessions = -(-clicks // SESSION)
    user = np.repeat(chance.integers(0, users, sessions), SESSION)[:clicks]
    start = (chance.random(sessions) + day) if day else chance.random(sessions) * DAYS
    seconds = np.repeat(start * 86_400, SESSION)[:clicks] + np.tile(np.arange(SESSION) * 60, sessions)[:clicks]
    item = (items * chance.random(clicks) ** 3).astype(np.int64)  # the first items are the popular ones
    if new_items:
        item = np.where(chance.random(clicks) < 0.5, items + chance.integers(0, new_items, clicks), item)
    # Each file has microseconds of its own, so that no two clicks of one user, item and time stand in two files.
    micros = np.round(seconds * 1000).astype(np.int64) * 1000 + seed
    moments = (
        pd.Series(FIRST_DAY + pd.to_timedelta(micros, unit="us")).dt.tz_localize("UTC").astype("datetime64[us, UTC]")
    )
    rating = chance.integers(1, 6, clicks)
    rows = pd.DataFrame({"user_id": user, "item_id": item, "event_timestamp": moments, "rating": rating})
    rows.to_parquet(folder / "catalog" / "log" / f"{name}.parquet", index=False)


def timed_run(folder: Path, name: str, until: str) -> dict[str, Stage]:
    """Run the jobs and return what each stage cost, with the start of Python and Spark as a stage of its own."""
    print(f"{folder.name}, {name} run ...", flush=True)
    before = {path.name for path in (folder / "events").iterdir()}
    began, began_at = time.perf_counter(), time.time()
    with open(folder / f"{name}.txt", "w") as log:
        subprocess.run([QARM, "run", "--until", until], cwd=folder, check=True, stdout=log, stderr=log)
    wall = time.perf_counter() - began
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for path in (folder / "events").iterdir():
        if path.name not in before and not path.name.endswith(".crc"):
            count_rows(path, counted)
    found = {}
    for path in sorted((folder / "artifacts" / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime):
        record = json.loads(path.read_text())
        if path.stat().st_mtime >= began_at and "seconds" in record:
            found[path.stem] = Stage(record["seconds"], counted[path.stem])
    rest = wall - sum(stage.seconds for stage in found.values())
    return {"start and the rest": Stage(rest, Counter()), **found}


def count_rows(path: Path, counted: dict[str, Counter[str]]) -> None:
    """Add the rows of the tasks of an event log, by the job that the description of their Spark job begins with."""
    of_stage: dict[int, str] = {}
    with open(path) as lines:
        for line in lines:
            event = json.loads(line)
            if event["Event"] == "SparkListenerJobStart":
                description = event.get("Properties", {}).get("spark.job.description") or ""
                of_stage |= {stage: description.split(":")[0] for stage in event["Stage IDs"]}
            elif event["Event"] == "SparkListenerTaskEnd":
                metrics, rows = event.get("Task Metrics") or {}, counted[of_stage.get(event["Stage ID"], "")]
                rows["read"] += metrics.get("Input Metrics", {}).get("Records Read", 0)
                rows["MB read"] += metrics.get("Input Metrics", {}).get("Bytes Read", 0) / 1e6
                rows["shuffled"] += metrics.get("Shuffle Write Metrics", {}).get("Shuffle Records Written", 0)
                rows["written"] += metrics.get("Output Metrics", {}).get("Records Written", 0)
                rows["task seconds"] += metrics.get("Executor Run Time", 0) / 1000


def print_table(runs: tuple[dict[str, Stage], ...], fixed: tuple[dict[str, Stage], ...]) -> None:
    """Print both runs beside each other; a stage that the second run skipped costs nothing there."""
    kinds = ("task seconds", "read", "shuffled", "written")
    heads = "".join(f"{kind:>22}" for kind in kinds)
    print(f"{'stage':22}{'seconds':>18}{'share':>7}{heads}{'fixed task seconds':>22}{'share above':>13}")
    nothing = Stage(0.0, Counter())
    totals = [nothing] * 4
    for name in runs[0]:
        costs = [run.get(name, nothing) for run in (*runs, *fixed)]
        totals = [Stage(a.seconds + b.seconds, a.rows + b.rows) for a, b in zip(totals, costs)]
        print_line(name, costs, kinds)
    print_line("whole run", totals, kinds)


def print_line(name: str, costs: list[Stage], kinds: tuple[str, ...]) -> None:
    """Print what one stage cost in both runs, and in both runs of the tiny project."""
    first, second, *fixed = costs
    share = second.seconds / first.seconds if first.seconds else 0.0
    counts = "".join(f"{first.rows[kind]:>12,.0f}{second.rows[kind]:>10,.0f}" for kind in kinds)
    work = [cost.rows["task seconds"] for cost in costs]
    above = f"{(work[1] - work[3]) / (work[0] - work[2]):>13.0%}" if work[0] > work[2] else ""
    rest = "".join(f"{cost.rows['task seconds']:>{width},.0f}" for cost, width in zip(fixed, (12, 10)))
    print(f"{name:22}{first.seconds:>10.1f}{second.seconds:>8.1f}{share:>7.0%}{counts}{rest}{above}")


if __name__ == "__main__":
    main()
