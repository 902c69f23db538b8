"""Flips under load: reader processes read batches without a pause while releases are promoted one after the other.

Each reader checks in every batch that all items are found and that all codes belong to the release that the batch names.
Two releases are loaded once. A flip is a call of ``promote_release``, as in ``qarm release promote``, with its lease. The
output is the number of mixed batches, errors and missing items, which must be 0, and the time from a flip to the last read
of the release before it, which the registry's cache time bounds.

    python benchmarks/flips.py --store redis     # registry in PostgreSQL
    python benchmarks/flips.py --store sqlite    # both in files
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the servers of the tests


class Flip(NamedTuple):
    """A promotion: the release, and the times at which the call began and ended."""

    version: int
    began: float
    ended: float


class Reads(NamedTuple):
    """Consecutive reads of one release: the times at which the first began, the last began and the last ended."""

    version: int
    began: float
    last_began: float
    ended: float


class Log(NamedTuple):
    """The counts, errors and runs of reads of one reader."""

    reads: int
    longest: float
    mixed: int
    missing: int
    errors: list[str]
    runs: list[Reads]


def main() -> None:
    """Flip releases under load and print the report."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--store", choices=("redis", "sqlite"), default="sqlite")
    arguments.add_argument("--flips", type=int, default=100)
    arguments.add_argument("--readers", type=int, default=4)
    arguments.add_argument("--items", type=int, default=10_000)
    arguments.add_argument("--batch", type=int, default=200, help="items in a read")
    arguments.add_argument("--cache-seconds", type=int, default=1, help="the registry's cache time")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, servers(options.store, Path(folder)) as (registry, online_store):
        write_releases(Path(folder), registry, online_store, options)
        report(*flip_under_load(Path(folder), options), options)


@contextlib.contextmanager
def servers(store: str, folder: Path):
    """Yield the path of the registry and the section ``online_store``."""
    if store == "sqlite":
        yield f"sqlite:///{folder}/registry.db", {"type": "sqlite", "path": str(folder / "online_store.db")}
        return
    from tests.feature_store.postgres_server import PostgresServer
    from tests.feature_store.redis_server import RedisServer

    (folder / "redis").mkdir()
    redis, postgres = RedisServer(folder / "redis"), PostgresServer()
    try:
        redis.start()
        postgres.start()
        online_store = {"type": "redis", "connection_string": redis.connection_string, "skip_dedup": True}
        yield postgres.registry_url(postgres.new_database()), online_store
    finally:
        postgres.stop()
        redis.stop(keep=False)


def codes_of(version: int, items: int) -> np.ndarray:
    """Return (items, 3) codes that identify the release and the item."""
    ids = np.arange(items)
    return np.stack([ids % 256, (ids // 256 + 7 * version) % 256, (ids + version) % 256], axis=1)


def write_releases(folder: Path, registry: str, online_store: dict, options: argparse.Namespace) -> None:
    """Make a project with releases 0 and 1, loaded by stock Feast, and promote release 0."""
    from qarm_features.cli.new_project import write_project
    from qarm_features.feature_store.publishing.release_manifest import ReleaseManifest, write_manifest
    from qarm_features.feature_store.publishing.releases import promote_release
    from qarm_features.feature_store.views.feature_views import Release, entities, open_feature_store, release_view
    from qarm_features.settings.load import load_settings
    from tests.feature_store.stock_store import code_values, write

    (folder / "qarm.yaml").write_text("items: {path: a.parquet}\ninteractions: {path: b.parquet}\n")
    write_project(folder)
    path = folder / "feature_repo" / "feature_store.yaml"
    config = yaml.safe_load(path.read_text())
    config["registry"] |= {"path": registry, "cache_ttl_seconds": options.cache_seconds}
    config["online_store"] = online_store
    path.write_text(yaml.safe_dump(config))
    settings, store = load_settings(folder / "qarm.yaml"), open_feature_store(path.parent)
    for version in (0, 1):
        release = Release(version, 0, num_levels=3, codebook_size=256, delta_version=0, rows=options.items)
        store.apply([*entities(settings), release_view(settings, release)])
        codes = dict(enumerate(codes_of(version, options.items).tolist()))
        write(store, release.view_name, codes, lambda row, version=version: code_values(row, version))
        write_manifest(settings, ReleaseManifest(release))
    promote_release(settings, 0)


def flip_under_load(folder: Path, options: argparse.Namespace) -> tuple[list[Flip], list[Log]]:
    """Return all flips and the log of each reader."""
    from qarm_features.feature_store.publishing.releases import promote_release
    from qarm_features.settings.load import load_settings

    settings = load_settings(folder / "qarm.yaml")
    context = multiprocessing.get_context("spawn")
    stop, logs, ready = context.Event(), context.Queue(), context.Barrier(options.readers + 1)
    readers = [
        context.Process(target=read, args=(folder, number, options, ready, stop, logs))
        for number in range(options.readers)
    ]
    for reader in readers:
        reader.start()
    ready.wait(timeout=300)
    flips, chance = [], random.Random(0)
    for version in itertools.islice(itertools.cycle((1, 0)), options.flips):
        time.sleep(
            options.cache_seconds * chance.uniform(1.6, 2.2)
        )  # so that all readers have followed the flip before
        began = time.monotonic()
        promote_release(settings, version)
        flips.append(Flip(version, began, time.monotonic()))
    time.sleep(2 * options.cache_seconds + 1)
    stop.set()
    found = [logs.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join()
    return flips, found


def read(folder: Path, number: int, options: argparse.Namespace, ready, stop, logs) -> None:
    """Read batches until ``stop`` is set, in a process of its own."""
    from qarm_features.feature_store import SemanticIDReader

    truth = {version: codes_of(version, options.items) for version in (0, 1)}
    random_ids, reader = np.random.default_rng(number), SemanticIDReader(folder / "feature_repo")
    reads = mixed = missing = 0
    longest = 0.0
    errors, runs = [], []
    ready.wait(timeout=300)
    while not stop.is_set():
        ids = random_ids.integers(options.items, size=options.batch)
        began = time.monotonic()
        try:
            batch = reader.item_codes(ids.tolist())
        except Exception as error:
            mixed += type(error).__name__ == "MixedReleaseError"
            errors.append(f"{type(error).__name__}: {error}"[:200])
            continue
        reads += 1
        missing += int((~batch.found).sum())
        mixed += bool((batch.codes.numpy() != truth[batch.codebook_version][ids]).any())
        ended = time.monotonic()
        longest = max(longest, ended - began)
        if runs and runs[-1].version == batch.codebook_version:
            runs[-1] = runs[-1]._replace(last_began=began, ended=ended)
        else:
            runs.append(Reads(batch.codebook_version, began, began, ended))
    logs.put(Log(reads, longest, mixed, missing, errors, runs))


def report(flips: list[Flip], logs: list[Log], options: argparse.Namespace) -> None:
    """Print the counts that must be 0, and how long a release was still read after a flip from it."""
    began, ended = [], []
    for flip, following in zip(flips, [*flips[1:], Flip(-1, float("inf"), 0.0)]):
        old = [run for log in logs for run in log.runs if run.version != flip.version and run.began < following.began]
        began.append(max([0.0, *[run.last_began - flip.ended for run in old]]))
        ended.append(max([0.0, *[run.ended - flip.ended for run in old]]))
    followed = [len(log.runs) - 1 for log in logs]
    errors = [error for log in logs for error in log.errors]
    print(
        f"{options.store}: {len(flips)} flips, {options.readers} readers, {sum(log.reads for log in logs):,} reads of "
        f"{options.batch} items, load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"mixed batches {sum(log.mixed for log in logs)}, errors {len(errors)}, missing {sum(log.missing for log in logs)}"
    )
    print(f"flips that each reader followed: {followed}")
    for what, late in (("began", began), ("ended", ended)):
        print(
            f"from a flip until the last read of the release before it {what}: median {statistics.median(late):.2f} s, most "
            f"{max(late):.2f} s; the registry is cached for {options.cache_seconds} s"
        )
    took = statistics.median(flip.ended - flip.began for flip in flips)
    print(f"longest read {max(log.longest for log in logs):.2f} s; a promotion took {took:.2f} s, its lease included")
    for error in errors[:5]:
        print(error)


if __name__ == "__main__":
    main()
