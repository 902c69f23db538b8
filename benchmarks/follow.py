"""New items while readers read: 10,000 items in 20 files are taken up by ``qarm follow``, which is then also killed.

Two projects start from the same release. Files of new items land in the catalog of each, one every few seconds, while a
follower looks for files every 5 seconds and four reader processes read through ``SemanticIDReader``. In the first project the
follower is left alone; in the second it is killed by SIGKILL at random moments and started again. Vectors are synthetic
(precomputed, 32 numbers around 64 centers), so the figures are those of the flow and not of an encoder.

Every reader polls a share of the new items and notes when each is found first, and whether codes ever change. The output is
the time from the change of a file to the first read of each of its items, beside the time in which ``qarm publish-features``
publishes the base release whole, which a schedule would run instead. It fails unless all items are served, none stands twice,
none moved, and both projects end with the same content.

    python benchmarks/follow.py
    python benchmarks/follow.py --store redis    # registry in PostgreSQL
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from flips import servers

DIM, CENTERS, BASE = 32, 64, 2_000
QARM = str(Path(sys.executable).with_name("qarm"))
SETTINGS = f"""\
items: {{path: catalog/items, format: parquet, text: [], precomputed: vector, precomputed_dim: {DIM}}}
interactions: {{path: catalog/log, format: parquet}}
codebooks: {{num_levels: 3, codebook_size: 64, max_iter: 5}}
publishing: {{lease_seconds: 2, verify_items: 500}}
spark: {{conf: {{spark.sql.shuffle.partitions: "4"}}}}
"""


def main() -> None:
    """Run both projects and print what readers saw."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--store", choices=("redis", "sqlite"), default="sqlite")
    arguments.add_argument("--items", type=int, default=10_000, help="new items")
    arguments.add_argument("--files", type=int, default=20)
    arguments.add_argument("--every", type=float, default=5.0, help="seconds between two files")
    arguments.add_argument("--trigger", type=float, default=5.0, help="seconds between two looks of the follower")
    arguments.add_argument("--readers", type=int, default=4)
    arguments.add_argument("--kills", type=int, default=5)
    options = arguments.parse_args()
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        for name, kills in (("left alone", 0), ("killed", options.kills)):
            place = Path(folder) / name.replace(" ", "_")
            if options.store == "sqlite" and contents:
                shutil.copytree(Path(folder) / "released", place)
            place.mkdir(exist_ok=True)
            with servers(options.store, place) as (registry, online_store):
                project = place / "project"
                seconds = release_project(project, registry, online_store)
                if options.store == "sqlite" and not contents:
                    shutil.copytree(place, Path(folder) / "released")
                contents.append(follow_under_load(project, options, kills, name, seconds))
    same = contents[0] == contents[1]
    print(f"end state by content hash: {contents[0][:16]} left alone, {contents[1][:16]} killed, equal: {same}")
    if not same:
        raise SystemExit(1)


def items_of(numbers: range) -> pd.DataFrame:
    """Return rows of the catalog: vectors around the center of each item."""
    centers = np.random.default_rng(0).normal(size=(CENTERS, DIM))
    noise = np.random.default_rng([1, numbers.start]).normal(size=(len(numbers), DIM))
    vectors = (centers[np.asarray(numbers) % CENTERS] + 0.3 * noise).astype(np.float32)
    return pd.DataFrame({"item_id": list(numbers), "vector": list(vectors)})


def release_project(folder: Path, registry: str, online_store: dict) -> float:
    """Make a project with a promoted release of the base items, and return the seconds of a whole publication."""
    from qarm_features.cli.new_project import write_project

    if (folder / "feature_repo").is_dir():  # a copy of a project with a release
        set_stores(folder, registry, online_store)
        return publish_seconds(folder)
    for name in ("items", "log"):
        (folder / "catalog" / name).mkdir(parents=True)
    items_of(range(BASE)).to_parquet(folder / "catalog" / "items" / "base.parquet", index=False)
    moments = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(range(BASE), unit="min")
    log = pd.DataFrame(
        {"user_id": np.arange(BASE) % 100, "item_id": range(BASE), "event_timestamp": moments.as_unit("us")}
    )
    log.to_parquet(folder / "catalog" / "log" / "base.parquet", index=False)
    (folder / "qarm.yaml").write_text(SETTINGS)
    write_project(folder)
    set_stores(folder, registry, online_store)
    subprocess.run([QARM, "run", "--until", "publish-features"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return publish_seconds(folder)


def set_stores(folder: Path, registry: str, online_store: dict) -> None:
    """Name registry and online store in the feature repo."""
    path = folder / "feature_repo" / "feature_store.yaml"
    config = yaml.safe_load(path.read_text())
    config["registry"] |= {"path": registry, "cache_ttl_seconds": 1}
    config["online_store"] = online_store
    path.write_text(yaml.safe_dump(config))


def publish_seconds(folder: Path) -> float:
    """Return the seconds that the publication of the release took."""
    return json.loads((folder / "artifacts" / "runs" / "publish_features.json").read_text())["seconds"]


def follow_under_load(folder: Path, options: argparse.Namespace, kills: int, name: str, publish_seconds: float) -> str:
    """Add files while readers read and a follower follows, print what was seen, and return a hash of the end state."""
    spawn = multiprocessing.get_context("spawn")
    stop, found, ready = spawn.Event(), spawn.Queue(), spawn.Barrier(options.readers + 1)
    readers = [
        spawn.Process(target=read, args=(folder, n, options, ready, stop, found)) for n in range(options.readers)
    ]
    for reader in readers:
        reader.start()
    ready.wait(timeout=600)
    follower, began = start(folder, options), time.time()
    wait_until_it_follows(folder, follower)
    arrived: dict[int, float] = {}
    chance, size = random.Random(0), options.items // options.files
    deaths = sorted(chance.uniform(0.1, 1.0) * options.files * options.every for _ in range(kills))
    first, done = time.time(), 0
    while done < options.files or deaths:
        if done < options.files and time.time() - first >= done * options.every:
            arrived[done] = add_file(folder, done, range(BASE + done * size, BASE + (done + 1) * size))
            done += 1
        if deaths and time.time() - first >= deaths[0]:
            deaths.pop(0)
            os.killpg(follower.pid, signal.SIGKILL)
            follower.wait()
            follower = start(folder, options)
        time.sleep(0.05)
    wait_until_served(folder, BASE + options.items, follower)
    time.sleep(3)
    stop.set()
    seen = [found.get(timeout=120) for _ in readers]
    follower.send_signal(signal.SIGTERM)
    code = follower.wait(timeout=300)
    report(name, arrived, size, seen, code, publish_seconds, time.time() - began)
    return content_hash(folder)


def start(folder: Path, options: argparse.Namespace) -> subprocess.Popen:
    """Start a follower in a process group of its own."""
    with open(folder / "follow.txt", "a") as log:
        command = [QARM, "follow", "--trigger-seconds", str(options.trigger)]
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def wait_until_it_follows(folder: Path, follower: subprocess.Popen) -> None:
    """Wait until a follower has caught up."""
    while "is followed" not in " ".join((folder / "follow.txt").read_text().split()):
        assert follower.poll() is None, (folder / "follow.txt").read_text()[-2000:]
        time.sleep(0.1)


def wait_until_served(folder: Path, rows: int, follower: subprocess.Popen) -> None:
    """Wait until the record of the release counts all items."""
    from qarm_features.feature_store.publishing.release_manifest import promoted_release
    from qarm_features.settings.load import load_settings

    settings, deadline = load_settings(folder / "qarm.yaml"), time.monotonic() + 1_200
    while promoted_release(settings).rows < rows:
        assert follower.poll() is None, (folder / "follow.txt").read_text()[-2000:]
        assert time.monotonic() < deadline, "not all items were served within 20 minutes"
        time.sleep(0.2)


def add_file(folder: Path, number: int, items: range) -> float:
    """Add a file to the catalog, whole from the start, and return the time of its change."""
    hidden, path = (folder / "catalog" / "items" / f"{dot}new-{number:02}.parquet" for dot in (".", ""))
    items_of(items).to_parquet(hidden, index=False)
    hidden.rename(path)
    return path.stat().st_mtime


def read(folder: Path, number: int, options: argparse.Namespace, ready, stop, found) -> None:
    """Read base items and a share of the new ones until ``stop`` is set, in a process of its own."""
    from qarm_features.feature_store import SemanticIDReader

    reader = SemanticIDReader(folder / "feature_repo")
    base, chance = np.arange(BASE), np.random.default_rng(number)
    known = {int(item): tuple(codes) for item, codes in zip(base, reader.item_codes(base.tolist()).codes.tolist())}
    mine = np.arange(BASE + number, BASE + options.items, options.readers)
    first, reads, errors = {}, 0, []
    ready.wait(timeout=600)
    while not stop.is_set():
        waiting = [int(item) for item in mine if int(item) not in first][:400]
        ids = [*waiting, *chance.choice(list(known), size=100).tolist()]
        try:
            batch = reader.item_codes(ids)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}"[:200])
            continue
        now, reads = time.time(), reads + 1
        for item, codes, is_found in zip(ids, batch.codes.tolist(), batch.found.tolist()):
            if is_found and item not in known:
                first[item], known[item] = now, tuple(codes)
            elif item in known and (not is_found or known[item] != tuple(codes)):
                errors.append(f"item {item} moved from {known[item]} to {codes}, found: {is_found}")
        time.sleep(0.05)
    found.put((reads, errors, first))


def report(name: str, arrived: dict, size: int, seen: list, code: int, publish_seconds: float, seconds: float) -> None:
    """Print the lag of each item, and fail if items were not served or moved."""
    first = {item: moment for _, _, one in seen for item, moment in one.items()}
    errors = [error for _, some, _ in seen for error in some]
    lags = [moment - arrived[(item - BASE) // size] for item, moment in first.items()]
    print(
        f"{name}: {len(first):,} of {len(arrived) * size:,} new items were read, in {seconds:.0f} s; exit code {code}"
    )
    print(f"  {sum(reads for reads, _, _ in seen):,} reads, {len(errors)} errors, moved or lost items")
    print(
        f"  from file to read: median {np.median(lags):.1f} s, p99 {np.quantile(lags, 0.99):.1f} s, longest {max(lags):.1f} "
        f"s; a whole publication of the base release alone takes {publish_seconds:.1f} s"
    )
    for error in errors[:5]:
        print(f"  {error}")
    if errors or len(first) < len(arrived) * size or code:
        raise SystemExit(1)


def content_hash(folder: Path) -> str:
    """Return a hash of the semantic IDs in the table and of all that a reader gets, and fail if an item stands twice.

    The collision index is left out: it numbers the items that share an ID by their batches, which a kill divides differently.
    """
    from qarm_features.feature_store import SemanticIDReader
    from qarm_features.settings.load import load_settings
    from qarm_features.storage.tables import ITEM_SEMANTIC_IDS
    from qarm_features.storage.warehouse import Warehouse

    settings = load_settings(folder / "qarm.yaml")
    rows = Warehouse(settings.warehouse_path, **settings.id_types).arrow(ITEM_SEMANTIC_IDS).to_table()
    ids = sorted(zip(rows["item_id"].to_pylist(), rows["rq_codes"].to_pylist()))
    assert len({item for item, _ in ids}) == len(ids), "an item stands twice in item_semantic_ids"
    batch = SemanticIDReader(folder / "feature_repo").item_codes([item for item, _ in ids])
    assert bool(batch.found.all()) and batch.codes.tolist() == [codes for _, codes in ids], "Delta and store differ"
    return hashlib.sha256(json.dumps([ids, batch.codes.tolist()]).encode()).hexdigest()


if __name__ == "__main__":
    main()
