"""Measure the constants of ``qarm plan`` on this machine, by running the product's own jobs at several sizes.

Each size runs in a process of its own, as ``qarm run`` does, with Redis as its online store. The sizes differ in items or in
events, so that what a stage takes once can be told from what it takes for an item or an event. What a multiplication takes is
measured apart, by the product's own functions on arrays. Seconds are processor seconds of all processes of a run, since other
programs lengthen the wall seconds. It prints both, and beside each measured stage what the constants say of it.

    make calibrate
    python benchmarks/calibrate.py --keep FOLDER    # keeps the runs there, and goes on where it was stopped
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # for the processes of the runs

from planning_runs.world import World  # noqa: E402

# Each of the larger ones runs the stages that its difference to the first one tells something about, and what these need.
# Much of what 100,000 items take is the start of a process, so that the time of an item shows only at many more.
WORLDS = {
    "small": World(items=20_000, events=100_000, users=2_000),
    "items": World(items=100_000, events=100_000, users=2_000),
    "events": World(items=100_000, events=500_000, users=10_000),
    "many items": World(items=500_000, events=100_000, users=2_000),
}
LEFT_OUT = {
    "small": (),
    "items": ("build_training_set", "train_ranking_model"),
    "events": ("find_nearest_items",),
    "many items": ("find_nearest_items", "build_training_set", "train_ranking_model"),
}
PARALLEL_EFFICIENCY = 0.7


def main() -> None:
    """Run what is not kept yet, fit the constants, and write them."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--output", type=Path, default=Path("plan_constants.json"))
    arguments.add_argument("--keep", type=Path, help="folder of the runs; a temporary one by default")
    arguments.add_argument("--one", choices=(*WORLDS, "rates"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.one:
        return run_one(options.one, options.keep)
    with tempfile.TemporaryDirectory() as folder:
        keep = options.keep or Path(folder)
        keep.mkdir(parents=True, exist_ok=True)
        for name in (*WORLDS, "rates"):
            if not (keep / f"{name}.json").is_file():
                print(f"{name}: {WORLDS.get(name, '')}", flush=True)
                # A rate is that of one core, and a run takes what its jobs take.
                threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if name == "rates" else {}
                command = [sys.executable, __file__, "--one", name, "--keep", str(keep)]
                subprocess.run(command, check=True, env=os.environ | threads)
        constants = constants_of(keep)
    options.output.write_text(json.dumps(constants, indent=1) + "\n")
    print(f"wrote {options.output}. Use it: qarm plan --constants {options.output} --items 1_000_000_000")


def run_one(name: str, keep: Path) -> None:
    """Run one world, or measure the rates, in this process, and keep what was found when all is there."""
    from planning_runs.measured import STAGES, machine, measure

    if name == "rates":
        (keep / "rates.json").write_text(json.dumps(measured_rates(), indent=1))
        return

    stages = tuple(stage for stage in STAGES if stage not in LEFT_OUT[name])
    found = {"machine": machine(), "records": list(measure(WORLDS[name], stages))}
    (keep / f"{name}.json").write_text(json.dumps(found, indent=1))


def constants_of(keep: Path) -> dict[str, Any]:
    """Return the constants of kept runs, of keys in Redis and of rates, in the layout of the package's file."""
    from planning_runs.fitting import redis_constants, stage_constants

    runs = [json.loads((keep / f"{name}.json").read_text()) for name in WORLDS]
    records = [record for run in runs for record in run["records"]]
    rates, stages = json.loads((keep / "rates.json").read_text()), dict[str, Any]()
    for stage in dict.fromkeys(record["stage"] for record in records):
        of_stage = [record for record in records if record["stage"] == stage]
        stages[stage] = stage_constants(of_stage, rates)
        compare(stage, of_stage, stages[stage])
    add_rates(stages, rates)
    loads = [run["machine"]["load_average"] for run in runs]
    return {
        "machine": runs[0]["machine"] | {"load_average": max(loads)},
        "measured_on": datetime.now(UTC).date().isoformat(),
        "about": "Processor seconds of the whole tree of processes, measured by make calibrate on synthetic catalogs with "
        f"supplied vectors, at a load average of {min(loads)} to {max(loads)} from all programs of the machine.",
        "runs": [run["records"][0]["world"] for run in runs],
        "parallel_efficiency": PARALLEL_EFFICIENCY,
        "trainer_cores": 2,
        "stages": stages,
        "redis": redis_constants(kept(keep / "redis.json", measured_keys)),
    }


def compare(stage: str, records: list[dict[str, Any]], constants: dict[str, Any]) -> None:
    """Print what was measured of a stage, in wall and in processor seconds, and what its constants say."""
    from planning_runs.fitting import seconds_by_constants, work_of

    for record in records:
        said = seconds_by_constants(work_of(record), constants["cpu_seconds"], constants["driver_seconds"])
        world = record["world"]
        print(
            f"{stage:20} {world['items']:>9,} items {world['events']:>9,} events: {record['wall_seconds']:7.1f} s wall, "
            f"{record['cpu_seconds']:7.1f} processor s, by the constants {said:7.1f}"
        )


def add_rates(stages: dict[str, Any], rates: dict[str, float]) -> None:
    """Add to the stages what only large catalogs show."""
    stages["fit_codebooks"]["read_bytes"] = {"item_bytes": 1.0}  # Arrow reads them, which Spark does not count
    embed = stages["embed_items"]
    embed["cpu_seconds"] |= {name: rates[name] for name in ("encoder_flops", "rescanned_bytes")}
    embed["read_bytes"]["rescanned_bytes"] = 1.0
    alone = {"fixed": 0.0, "laid_out_bytes": rates["laid_out_bytes"]}
    stages["write_content_tokens"] = embed | {"driver_seconds": alone}
    stages["align_encoder"] = {"cpu_seconds": {}, "driver_seconds": {"pair_passes": rates["pair_passes"]}}


def measured_rates() -> dict[str, float]:
    """Return the rates, by the name of their unit."""
    from planning_runs import rates

    return {
        "multiply_adds": rates.lloyd_seconds(),
        "start_multiply_adds": rates.start_seconds(),
        "search_multiply_adds": rates.search_seconds(),
        "table_updates": rates.table_update_seconds(),
        "laid_out_bytes": rates.lay_out_seconds(),
        "encoder_flops": rates.encoder_flop_seconds(),
        "rescanned_bytes": rates.scan_seconds(),
        "pair_passes": rates.PAIR_PASSES,
    }


def measured_keys() -> list[dict[str, Any]]:
    """Return the bytes of keys in a real Redis server, at several numbers of rows, releases, levels and lengths."""
    from planning_runs.redis_rows import COUNTS, item_keys, user_keys
    from servers.redis_server import redis_server

    with redis_server() as (port, _):
        found = [item_keys(port, levels=levels, releases=n) for levels in (3, 6) for n in (1, 2)]
        found += [user_keys(port, length=length, counts=COUNTS[:2]) for length in (5, 10, 25, 50, 100)]
    for line in (lines := [line for some in found for line in some]):
        print(f"Redis: {line}", flush=True)
    return lines


def kept(file: Path, measure: Any) -> Any:
    """Return what a file holds, after it was measured if there is none."""
    if not file.is_file():
        file.write_text(json.dumps(measure()))
    return json.loads(file.read_text())


if __name__ == "__main__":
    main()
