"""Time to mine item pairs on local Spark, and Swing against a single process that loops over pairs of users.

Usage: python benchmarks/mine_item_pairs.py --interactions 10000000
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import tempfile
import time
from collections import defaultdict
from itertools import combinations
from math import sqrt

THREADS = 2
_EXACT = {"max_users_per_item": 10**6, "max_items_per_user": 10**6, "min_support": 1, "max_pairs_per_item": 20}


def start_spark(folder: str):
    """Start a Spark session on a few threads, as the jobs do."""
    from qarm_features.jobs.spark_session import start_session
    from qarm_features.settings.sections import SparkOptions

    conf = {"spark.driver.memory": "6g", "spark.sql.shuffle.partitions": "16", "spark.local.dir": folder}
    return start_session(SparkOptions(master=f"local[{THREADS}]", conf=conf), name="benchmark")


def write_interactions(spark, path: str, interactions: int, users: int, items: int) -> None:
    """Write positives: each user samples from one of 50 tastes, and the k-th item of a taste has probability 1 / k."""
    from pyspark.sql import functions as F

    rows = spark.range(0, interactions, 1, 16)
    tastes = max(1, min(50, items // 100))
    user = F.floor(F.rand(1) * users).cast("bigint")
    place = F.floor(F.pow(F.lit(items / tastes), F.rand(2))) - 1  # log-uniform: density 1 / k
    strays = F.when(F.rand(3) < 0.1, F.floor(F.rand(4) * tastes)).otherwise(F.col("user_id") % tastes)
    rows = rows.withColumn("user_id", user).withColumn("item_id", (place * tastes + strays).cast("bigint"))
    moment = F.timestamp_seconds(F.lit(1_700_000_000) + F.floor(F.rand(5) * 10_000_000))
    rows.select("user_id", "item_id", moment.alias("event_timestamp")).write.mode("overwrite").parquet(path)


def swing_in_one_process(rows: list[tuple[int, int]], alpha: float) -> dict[tuple[int, int], float]:
    """Return the scores of all pairs (i, j), by a loop over the pairs of users that share an item."""
    items_of, users_of = defaultdict(set), defaultdict(list)
    for user, item in sorted(set(rows)):
        items_of[user].add(item)
        users_of[item].append(user)
    scores: dict[tuple[int, int], float] = defaultdict(float)
    for trigger, users in users_of.items():
        for u, v in combinations(users, 2):
            common = items_of[u] & items_of[v]
            weight = 1 / sqrt(len(items_of[u])) / sqrt(len(items_of[v])) / (alpha + len(common))
            for target in common:
                if target != trigger:
                    scores[trigger, target] += weight
    return scores


def peak_memory() -> str:
    """Return the peak resident memory of this process, of Spark's JVM, and of its largest Python worker."""
    pids = subprocess.run(["ps", "-eo", "pid,ppid,comm"], capture_output=True, text=True, check=True).stdout
    jvm = next(line.split()[0] for line in pids.splitlines() if line.split()[1:] == [str(os.getpid()), "java"])
    with open(f"/proc/{jvm}/status") as status:
        java = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker = 0
    for line in pids.splitlines()[1:]:
        try:
            with open(f"/proc/{line.split()[0]}/status") as status:
                found = dict(part.split(":", 1) for part in status.read().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            continue
        if found["Name"].strip().startswith("python") and line.split()[0] != str(os.getpid()):
            worker = max(worker, int(found.get("VmHWM", "0").split()[0]))
    return f"driver {own / 2**20:.2f} GiB, JVM {java / 2**20:.2f} GiB, largest Python worker {worker / 2**20:.2f} GiB"


def time_sources(spark, path: str, sources: list[str], rank: int) -> None:
    """Print the seconds and the number of pairs of each source."""
    from qarm_features.item_pairs import mine_item_pairs
    from qarm_features.settings.sections import ItemPairs

    for source in sources:
        start = time.perf_counter()
        pairs = mine_item_pairs(spark.read.parquet(path), settings=ItemPairs(sources=[source], als_rank=rank))
        pairs.write.mode("overwrite").parquet(f"{path}-pairs")
        seconds = time.perf_counter() - start
        print(f"{source}: {seconds:.1f} s, {spark.read.parquet(f'{path}-pairs').count()} pairs", flush=True)
        spark.catalog.clearCache()


def compare_swing(spark, path: str) -> None:
    """Print both times of uncapped Swing on the same rows, their ratio, and the largest difference between weights."""
    from qarm_features.item_pairs import mine_item_pairs
    from qarm_features.settings.sections import ItemPairs

    rows = [tuple(row) for row in spark.read.parquet(path).select("user_id", "item_id").collect()]
    start = time.perf_counter()
    scores = swing_in_one_process(rows, alpha=1.0)
    peer_seconds = time.perf_counter() - start
    start = time.perf_counter()
    settings = ItemPairs(sources=["item-to-item"], **_EXACT)
    found = mine_item_pairs(spark.read.parquet(path), settings=settings).collect()
    seconds = time.perf_counter() - start
    by_trigger = defaultdict(list)
    for (trigger, target), score in scores.items():
        by_trigger[trigger].append((-round(score, 12), target))
    expected = {(i, j): -s for i, targets in by_trigger.items() for s, j in sorted(targets)[:20]}
    weights = {(row["trigger_item_id"], row["target_item_id"]): row["weight"] for row in found}
    worst = max(abs(weights[pair] - expected[pair]) for pair in weights.keys() & expected.keys())
    print(
        f"Swing on {len(rows)} rows: ours {seconds:.1f} s, loop {peer_seconds:.1f} s, ratio {peer_seconds / seconds:.1f}"
    )
    print(
        f"pairs: ours {len(weights)}, loop {len(expected)}, in both {len(weights.keys() & expected.keys())}; "
        f"largest difference of a weight {worst:.1e}"
    )


def main() -> None:
    """Print the times of the sources at full size, the peak memory, and the comparison on a subset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--peer-interactions", type=int, default=200_000)
    parser.add_argument("--als-rank", type=int, default=64)
    parser.add_argument("--sources", nargs="+", default=["item-to-item", "user-to-item"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spark = start_spark(folder)
        whole, subset = f"{folder}/whole", f"{folder}/subset"
        share = args.peer_interactions / args.interactions
        write_interactions(spark, subset, args.peer_interactions, max(1, int(args.users * share)), args.items // 5)
        write_interactions(spark, whole, args.interactions, args.users, args.items)
        compare_swing(spark, subset)
        print(f"{args.interactions} interactions, {args.users} users, {args.items} items, local[{THREADS}]", flush=True)
        time_sources(spark, whole, args.sources, args.als_rank)
        print(f"peak memory: {peak_memory()}")
        spark.stop()


if __name__ == "__main__":
    main()
