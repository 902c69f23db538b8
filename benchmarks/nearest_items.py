"""Time to find the k nearest items of every item: ``NearestItems`` on local Spark against faiss and scikit-learn.

All read the same Parquet files in the same run. The output also has the approximate search with its recall, and one against
two workers of one thread each.

Usage: python benchmarks/nearest_items.py --rows 50000 --dim 128
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

THREADS = 2
FILES = 4


def write_clustered_rows(path: str, rows: int, dim: int, clusters: int) -> None:
    """Write rows of unit norm in clusters of unequal size to a few Parquet files."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(clusters, dim)).astype(np.float32)
    for part in range(FILES):
        members = (clusters * generator.random(rows // FILES) ** 2).astype(int)
        embeddings = centers[members] + 0.7 * generator.normal(size=(len(members), dim)).astype(np.float32)
        embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
        offsets = np.arange(0, embeddings.size + 1, dim, dtype=np.int32)
        item_ids = np.arange(len(members)) * FILES + part
        columns = {"item_id": item_ids, "embedding": pa.ListArray.from_arrays(offsets, embeddings.ravel())}
        pq.write_table(pa.table(columns), f"{path}/part-{part}.parquet")


def read_rows(path: str, dim: int) -> np.ndarray:
    """Read all rows (B, D) into memory, in the order of item IDs."""
    table = pq.read_table(path)
    rows = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
    return rows[np.argsort(table["item_id"].to_numpy())]


def timed(call: Callable[[], object]) -> tuple[object, float]:
    """Return the result of a call and its seconds."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def with_spark(path: str, args: argparse.Namespace, *, workers: int) -> list[tuple[np.ndarray | None, float, dict]]:
    """Return positions (B, k), seconds and summary of the exact and of the approximate search.

    The seconds count the reading of queries and the writing of results, but not the start of Spark and the building of the
    bank.
    """
    from pyspark.sql import SparkSession

    from qarm_features.quantizers import NearestItems

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{workers}]").config("spark.driver.memory", "3g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "4")
    spark = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    rows, found = spark.read.parquet(path), []
    for exact_up_to in (args.rows, 0):
        model = NearestItems(k=args.k, exactUpTo=exact_up_to, shardRows=args.shard_rows).fit(rows)
        nearest = model.transform(rows).select("item_id", "vq_codes")
        nearest.limit(10).write.format("noop").mode("overwrite").save()  # starts the workers
        out = f"{path}-{workers}-{exact_up_to}"
        _, seconds = timed(lambda nearest=nearest, out=out: nearest.write.parquet(out))
        table = pq.read_table(out).sort_by("item_id")
        codes = table["vq_codes"].combine_chunks().flatten().to_numpy().reshape(-1, args.k)
        found.append((codes, seconds, model.training_summary))
    spark.stop()
    return found


def with_faiss(path: str, args: argparse.Namespace) -> np.ndarray:
    """Return positions (B, k + 1) from IndexFlatIP in one process."""
    import faiss

    faiss.omp_set_num_threads(THREADS)
    rows = read_rows(path, args.dim)
    index = faiss.IndexFlatIP(args.dim)
    index.add(rows)
    return index.search(rows, args.k + 1)[1]


def with_scikit_learn(path: str, args: argparse.Namespace) -> np.ndarray:
    """Return positions (B, k + 1) from NearestNeighbors(brute) with two threads of BLAS and of OpenMP."""
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    rows = read_rows(path, args.dim)
    with threadpool_limits(THREADS):
        return NearestNeighbors(n_neighbors=args.k + 1, algorithm="brute").fit(rows).kneighbors(rows)[1]


def agreement(codes: np.ndarray, expected: np.ndarray) -> float:
    """Return the share of the expected neighbors (B, k + 1), without the item itself, that codes (B, k) hold."""
    hits = [len(np.intersect1d(mine, theirs)) for mine, theirs in zip(codes, expected)]
    return sum(hits) / codes.size


def main() -> None:
    """Print times, ratios, agreement and recall."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--k", type=int, default=25)
    parser.add_argument("--shard-rows", type=int, default=65_536)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows"
        os.mkdir(path)
        write_clustered_rows(path, args.rows, args.dim, clusters=args.rows // 50)
        faiss_found, faiss_seconds = timed(lambda: with_faiss(path, args))
        _, sklearn_seconds = timed(lambda: with_scikit_learn(path, args))
        two = with_spark(path, args, workers=2)
        one = with_spark(path, args, workers=1)
    print(f"{args.rows} x {args.dim}, k = {args.k}, two threads or workers")
    print(f"faiss IndexFlatIP {faiss_seconds:.2f} s, scikit-learn brute {sklearn_seconds:.2f} s")
    for name, of_two, of_one in zip(("exact", "approximate"), two, one):
        codes, seconds, summary = of_two
        print(
            f"NearestItems {name} {seconds:.2f} s, ratio to faiss {seconds / faiss_seconds:.2f}, ratio to scikit-learn "
            f"{seconds / sklearn_seconds:.2f}; bank built in {summary['seconds']:.2f} s; one worker {of_one[1]:.2f} s, "
            f"speed-up {of_one[1] / seconds:.2f}; same as faiss {agreement(codes, faiss_found):.5f}"
            + ("" if summary["exact"] else f", recall on the model's own sample {summary['recall']:.5f}")
        )


if __name__ == "__main__":
    main()
