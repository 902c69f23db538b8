"""SIGKILL at random moments of a publish: readers always see one whole release, and the next publish completes it.

Each round writes a new codebook version and starts a publisher in a process of its own. The publisher and its children are
killed at a random moment of the time that a publish takes. Then the same release is published completely, and the release
before the last is retired. Meanwhile reader processes read batches without a pause and compare every code.

    python benchmarks/kill_publisher.py --kills 30
    python benchmarks/kill_publisher.py --store redis    # registry in PostgreSQL
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from flips import servers

LEVELS, CODES, SETTINGS = 3, 256, "{lease_seconds: 2, verify_items: 200}"
CODE = "CAST(pmod(id DIV {place} + codebook_version * 7, 256) AS int)"


def main() -> None:
    """Kill publishers and print what readers saw, or publish one version as a child process."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--store", choices=("redis", "sqlite"), default="sqlite")
    arguments.add_argument("--kills", type=int, default=30)
    arguments.add_argument("--items", type=int, default=20_000)
    arguments.add_argument("--readers", type=int, default=2)
    arguments.add_argument("--publish", nargs=2, metavar=("FOLDER", "VERSION"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.publish:
        import qarm_features.feature_store.publishing.releases  # noqa: F401  kills must not fall into its import time

        context = open_project(Path(options.publish[0]))
        _ = context.spark
        print("begins", flush=True)
        publish(context, int(options.publish[1]), options.items)
        return
    with tempfile.TemporaryDirectory() as folder, servers(options.store, Path(folder)) as (registry, online_store):
        write_project_files(Path(folder), registry, online_store)
        kill_and_publish(Path(folder), options)


def open_project(folder: Path):
    """Return the context of the jobs."""
    from qarm_features.jobs.context import JobContext
    from qarm_features.settings.load import load_settings

    return JobContext(load_settings(folder / "qarm.yaml"), spark_log_on_stderr=False)


def write_project_files(folder: Path, registry: str, online_store: dict) -> None:
    """Write the settings and the feature repo."""
    from qarm_features.cli.new_project import write_project

    sources = "items: {path: a.parquet}\ninteractions: {path: b.parquet}\n"
    (folder / "qarm.yaml").write_text(f"{sources}publishing: {SETTINGS}\n")
    write_project(folder)
    path = folder / "feature_repo" / "feature_store.yaml"
    config = yaml.safe_load(path.read_text())
    config["registry"] |= {"path": registry, "cache_ttl_seconds": 1}
    config["online_store"] = online_store
    path.write_text(yaml.safe_dump(config))


def codes_of(version: int, ids: np.ndarray) -> np.ndarray:
    """Return the codes (B, L) of items under a codebook version."""
    return np.stack([(ids // CODES**level + version * 7) % CODES for level in range(LEVELS)], axis=1)


def add_version(context, version: int, items: int) -> None:
    """Write the semantic IDs of a codebook version."""
    from qarm_features.storage.tables import ITEM_SEMANTIC_IDS

    codes = ", ".join(CODE.format(place=CODES**level) for level in range(LEVELS))
    rows = context.spark.range(items).selectExpr("id", f"{version} AS codebook_version")
    rows = rows.selectExpr(
        "id AS item_id", f"array({codes}) AS rq_codes", "codebook_version", "0 AS encoder_version",
        "timestamp_seconds(0) AS event_timestamp",
    )  # fmt: skip
    context.warehouse.append(ITEM_SEMANTIC_IDS, rows)


def publish(context, version: int, items: int) -> None:
    """Publish a codebook version completely."""
    from qarm_features.feature_store.publishing.releases import publish_release
    from qarm_features.feature_store.views.feature_views import Release

    release = Release(version, 0, num_levels=LEVELS, codebook_size=CODES, delta_version=version, rows=items)
    publish_release(context.spark, context.settings, release)


def kill_and_publish(folder: Path, options: argparse.Namespace) -> None:
    """Run all rounds while readers read, and print what they saw."""
    from qarm_features.feature_store.publishing.retirement import retire_release

    context = open_project(folder)
    add_version(context, 0, options.items)
    publish(context, 0, options.items)
    spawn = multiprocessing.get_context("spawn")
    stop, logs, ready = spawn.Event(), spawn.Queue(), spawn.Barrier(options.readers + 1)
    readers = [spawn.Process(target=read, args=(folder, n, options, ready, stop, logs)) for n in range(options.readers)]
    for reader in readers:
        reader.start()
    ready.wait(timeout=300)
    chance, undisturbed, died_in, waits = random.Random(0), None, collections.Counter(), []
    for version in range(1, options.kills + 2):
        add_version(context, version, options.items)
        after = None if undisturbed is None else chance.uniform(0, undisturbed)
        seconds = killed_publisher(folder, version, options, after)
        undisturbed = undisturbed or seconds
        state = state_of(context.settings, version) if after is not None else "not killed"
        died_in[state] += 1
        began = time.perf_counter()
        publish(context, version, options.items)
        waits.append(time.perf_counter() - began)
        print(f"release {version}: {state} after {seconds:.1f} s, then published in {waits[-1]:.1f} s", flush=True)
        if version >= 2:
            retire_release(context.settings, version - 2)
    time.sleep(2)
    stop.set()
    found = [logs.get(timeout=60) for _ in readers]
    print(f"{options.store}: {options.kills} kills over {undisturbed:.1f} s of a release; states: {dict(died_in)}")
    print(f"the next publish completed each release, within {max(waits):.1f} s, with the wait for the lease")
    reads, errors = sum(log[0] for log in found), [error for log in found for error in log[1]]
    print(f"{reads:,} reads of 200 items: {len(errors)} errors, mixed batches or missing items")
    print(f"releases that readers saw: {sorted({version for log in found for version in log[2]})}")
    for error in errors[:5]:
        print(error)


def killed_publisher(folder: Path, version: int, options: argparse.Namespace, after: float | None) -> float:
    """Start a publisher, kill it ``after`` seconds of publishing, and return how long it published."""
    command = [sys.executable, __file__, "--items", str(options.items), "--publish", str(folder), str(version)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "begins\n"
    began = time.perf_counter()
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return time.perf_counter() - began


def state_of(settings, version: int) -> str:
    """Return the state that a killed publisher left behind."""
    from qarm_features.feature_store.publishing.release_manifest import find_manifest, promoted_release

    manifest = find_manifest(settings, version)
    promoted = promoted_release(settings)
    if promoted is not None and promoted.codebook_version == version:
        return "promoted"
    return "nothing" if manifest is None else manifest.state


def read(folder: Path, number: int, options: argparse.Namespace, ready, stop, logs) -> None:
    """Read batches until ``stop`` is set, in a process of its own."""
    from qarm_features.feature_store import SemanticIDReader

    chance, reader = np.random.default_rng(number), SemanticIDReader(folder / "feature_repo")
    reads, errors, versions = 0, [], set()
    ready.wait(timeout=300)
    while not stop.is_set():
        ids = chance.integers(options.items, size=200)
        try:
            batch = reader.item_codes(ids.tolist())
            if not np.array_equal(batch.codes.numpy(), codes_of(batch.codebook_version, ids)):
                errors.append(
                    f"codes of version {batch.codebook_version} differ; found {int(batch.found.sum())} of 200"
                )
            versions.add(batch.codebook_version)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}"[:200])
        reads += 1
        time.sleep(0.005)
    logs.put((reads, errors, versions))


if __name__ == "__main__":
    main()
