"""The jobs of a synthetic project, run one after another, with what each took.

In: sizes. Out: for each stage wall seconds, processor seconds of the whole tree of processes, those of the driver's own
process, and what Spark counted. Processor seconds are counted because other programs of a machine lengthen the wall seconds
of a stage far more than they lengthen these.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from servers.redis_server import redis_server

from planning_runs.processor_clock import ProcessorClock
from planning_runs.world import World, write_project

# In the order of `qarm run`. Item pairs are mined and nearest items are searched too, which it leaves out by default.
STAGES = (
    "ingest_catalog",
    "mine_item_pairs",
    "embed_items",
    "fit_codebooks",
    "assign_semantic_ids",
    "find_nearest_items",
    "build_user_behavior",
    "publish_features",
    "build_training_set",
    "train_ranking_model",
    "write_report",
)


def measure(world: World, stages: tuple[str, ...] = STAGES) -> Iterator[dict[str, Any]]:
    """Run stages on a new project, and yield one record per stage. Call it in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="qarm-plan-") as place, redis_server() as (port, server):
        folder = Path(place) / "project"
        write_project(folder, world, f"127.0.0.1:{port}")
        yield from _run(folder, world, stages, port, server)


def _run(folder: Path, world: World, stages: tuple[str, ...], port: int, server: int) -> Iterator[dict[str, Any]]:
    from qarm_features.jobs.context import JobContext
    from qarm_features.settings.load import load_settings

    jobs = {name: getattr(importlib.import_module(f"qarm_features.jobs.{name}"), name) for name in stages}
    context = JobContext(load_settings(folder / "qarm.yaml"), spark_log_on_stderr=False)
    context.spark.range(10).count()  # the start of Spark is no part of the first stage
    clock = ProcessorClock(left_out=server)
    for name, job in jobs.items():
        memory, counted, before = _redis_bytes(port), _spark_counts(context.spark), clock.seconds()
        began = time.perf_counter()
        counts = job(context)
        wall, after = time.perf_counter() - began, clock.seconds()
        spark = {key: value - counted[key] for key, value in _spark_counts(context.spark).items()}
        record = {"stage": name, "world": asdict(world), "rows": [counts.rows_in, counts.rows_out]}
        record |= {"wall_seconds": round(wall, 3), "cpu_seconds": round(after[0] - before[0], 3)}
        record |= {"driver_cpu_seconds": round(after[1] - before[1], 3), "spark": spark}
        record |= {"redis_bytes": _redis_bytes(port) - memory, "iterations": _iterations(context, name)}
        print(f"  {name}: {wall:.1f} s, {record['cpu_seconds']:.1f} processor seconds, {spark}", flush=True)
        yield record
    clock.stop()
    context.spark.stop()


def _spark_counts(spark: Any) -> dict[str, int]:
    """Return the bytes that Spark's stages read, wrote, shuffled and spilled so far."""
    context = spark.sparkContext
    store, jvm = context._jsc.sc().statusStore(), context._jvm
    nothing = jvm.java.util.ArrayList()
    found = store.stageList(nothing, False, False, context._gateway.new_array(jvm.double, 0), nothing)
    stages = [found.apply(place) for place in range(found.size())]
    names = {
        "input": "inputBytes",
        "output": "outputBytes",
        "shuffle": "shuffleWriteBytes",
        "spill": "diskBytesSpilled",
    }
    return {key: sum(getattr(stage, name)() for stage in stages) for key, name in names.items()}


def _iterations(context: Any, name: str) -> int | None:
    """Return the number of Lloyd steps of all levels, for the stage that fits codebooks."""
    if name != "fit_codebooks":
        return None
    return sum(level["iterations"] for level in context.artifacts("codebooks").latest().manifest["levels"])


def _redis_bytes(port: int) -> int:
    from redis import Redis

    with Redis(port=port) as client:
        return int(client.info("memory")["used_memory"])


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, memory, versions and the load of the machine."""
    versions = {name: importlib.import_module(name).__version__ for name in ("numpy", "pyarrow", "pyspark", "torch")}
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = round(psutil.virtual_memory().total / 2**30)
    return {
        "processor": names[0] if names else "unknown",
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "load_average": round(os.getloadavg()[0], 1),
        "versions": versions,
    }
