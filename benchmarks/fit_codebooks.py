"""Time to fit codebooks on Parquet, with reading: ``ResidualKMeans`` on local Spark against its peers in one run.

The peer is faiss.Kmeans in memory, as installed and, where its BLAS does not know the CPU, with the kernels that numpy's
BLAS selects. The ratio is to the faster one. With --all, Spark MLlib's KMeans and scikit-learn's MiniBatchKMeans fit one
level. The output also has the peak rate of matrix products on the machine and our share of it in the assignment, seconds
per iteration, one against two workers of one thread each (--workers), and seconds by number of rows (--linear).

Usage: python benchmarks/fit_codebooks.py --rows 200000 --dim 128 --codebook-size 256 --levels 3
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

THREADS, FILES, PART_ROWS = 2, 4, 100_000


def write_clustered_rows(path: str, rows: int, dim: int, clusters: int) -> None:
    """Write rows of unit norm in clusters of unequal size to a few Parquet files."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(clusters, dim)).astype(np.float32)
    for file in range(FILES):
        writer = None
        for start in range(0, rows // FILES, PART_ROWS):
            size = min(PART_ROWS, rows // FILES - start)
            members = (clusters * generator.random(size) ** 2).astype(int)
            embeddings = centers[members] + 0.7 * generator.normal(size=(size, dim)).astype(np.float32)
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
            offsets = np.arange(0, embeddings.size + 1, dim, dtype=np.int32)
            table = pa.table({"embedding": pa.ListArray.from_arrays(offsets, embeddings.ravel())})
            writer = writer or pq.ParquetWriter(f"{path}/part-{file}.parquet", table.schema)
            writer.write_table(table)
        writer.close()


def read_rows(path: str, dim: int) -> np.ndarray:
    """Read all rows (B, D) into memory."""
    column = pq.read_table(path)["embedding"]
    return np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks]).reshape(-1, dim)


def start_spark(workers: int):
    """Start local Spark. The times do not count this start."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{workers}]").config("spark.driver.memory", "4g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "4")
    spark = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def fit_with_spark(path: str, args: argparse.Namespace, workers: int = THREADS):
    """Return the model and the seconds of the fastest of --repeats fits in one session, after a warm-up fit."""
    from qarm_features.quantizers import ResidualKMeans

    spark = start_spark(workers)
    estimator = ResidualKMeans(
        numLevels=args.levels, codebookSize=args.codebook_size, maxIter=args.iterations, tol=0.0, seed=0
    )
    estimator.copy({estimator.maxIter: 2}).fit(spark.read.parquet(path).limit(20 * args.codebook_size))  # warms up
    runs = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        model = estimator.fit(spark.read.parquet(path))
        runs.append((time.perf_counter() - start, model))
    spark.stop()
    print(f"ResidualKMeans, {args.repeats} fits: {', '.join(f'{seconds:.2f}' for seconds, _ in runs)} s")
    seconds, model = min(runs, key=lambda run: run[0])
    return model, seconds


def fit_with_mllib(path: str, args: argparse.Namespace) -> float:
    """Return the seconds of Spark MLlib's KMeans for one level, on cached vectors as its guide recommends."""
    from pyspark.ml.clustering import KMeans
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import functions as F

    spark = start_spark(THREADS)
    start = time.perf_counter()
    rows = spark.read.parquet(path).select(array_to_vector(F.col("embedding")).alias("features"))
    rows = rows.persist()
    KMeans(k=args.codebook_size, maxIter=args.iterations, tol=0.0, seed=0, initSteps=2).fit(rows)
    seconds = time.perf_counter() - start
    spark.stop()
    return seconds


def fit_with_scikit_learn(path: str, args: argparse.Namespace) -> tuple[np.ndarray, float]:
    """Return centroids (1, K, D) and seconds of MiniBatchKMeans, on as many rows as full iterations process."""
    from sklearn.cluster import MiniBatchKMeans

    start = time.perf_counter()
    rows = read_rows(path, args.dim)
    kmeans = MiniBatchKMeans(args.codebook_size, max_iter=args.iterations, batch_size=8192, n_init=1, random_state=0)
    kmeans.fit(rows)
    return kmeans.cluster_centers_[None].astype(np.float32), time.perf_counter() - start


def touch_faiss_buffers() -> None:
    """Touch the buffers of faiss's BLAS, as ``blas_buffers`` does for numpy: it triples the speed on some CPUs."""
    import faiss

    rows = np.ones((1024, 512), np.float32)
    index = faiss.IndexFlatL2(512)
    index.add(rows)
    index.search(rows, 1)


def fit_with_faiss(path: str, args: argparse.Namespace) -> tuple[np.ndarray, float]:
    """Return codebooks (L, K, D) of faiss.Kmeans, fitted level by level on all rows, and seconds."""
    import faiss

    faiss.omp_set_num_threads(THREADS)
    touch_faiss_buffers()
    start = time.perf_counter()
    residuals, codebooks = read_rows(path, args.dim), []
    for level in range(args.levels):
        kmeans = faiss.Kmeans(
            args.dim, args.codebook_size, niter=args.iterations, seed=level, max_points_per_centroid=2**31 - 1
        )
        kmeans.train(residuals)
        codebooks.append(kmeans.centroids)
        if level + 1 < args.levels:
            residuals -= kmeans.centroids[kmeans.index.search(residuals, 1)[1][:, 0]]
    return np.stack(codebooks), time.perf_counter() - start


def run_faiss(path: str, kernels: str | None, file: str) -> float:
    """Run ``fit_with_faiss`` in a process of its own with the named BLAS kernels, and return seconds."""
    environment = os.environ | ({"OPENBLAS_CORETYPE": kernels} if kernels else {})
    command = [sys.executable, __file__, *sys.argv[1:], "--faiss-only", path, file]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def measure_products(dim: int, size: int) -> tuple[float, float]:
    """Return the peak rate of one thread and the rate of our assignment, both in 10^9 operations per second."""
    from threadpoolctl import threadpool_limits

    from qarm_features.quantizers.arrays.lloyd import nearest_codes

    generator = np.random.default_rng(1)
    square = generator.normal(size=(3072, 3072)).astype(np.float32)
    rows, centroids = (generator.normal(size=(count, dim)).astype(np.float32) for count in (40_960, size))
    with threadpool_limits(1):
        peak = 2 * 3072**3 / min(_seconds(lambda: square @ square) for _ in range(5))
        rate = 2 * rows.size * size / min(_seconds(lambda: nearest_codes(rows, centroids)) for _ in range(5))
    return peak / 1e9, rate / 1e9


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def relative_errors(path: str, dim: int, codebooks: np.ndarray) -> list[float]:
    """Return the relative error in [0, 1] after each level."""
    from qarm_features.quantizers.arrays.lloyd import nearest_codes

    residuals, errors = read_rows(path, dim), []
    energy = np.vdot(residuals, residuals)
    for centroids in codebooks:
        residuals -= centroids[nearest_codes(residuals, centroids)]
        errors.append(float(np.vdot(residuals, residuals) / energy))
    return errors


def compare(path: str, args: argparse.Namespace) -> None:
    """Print our time and error next to those of each peer."""
    peak, rate = measure_products(args.dim, args.codebook_size)
    print(f"one thread: peak {peak:.0f} GFLOP/s, assignment {rate:.0f} = {rate / peak:.0%} of it")
    model, ours = fit_with_spark(path, args)
    levels = model.training_summary
    steps = sum(level["iterations"] for level in levels)
    products = 2 * args.rows * args.dim * args.codebook_size / (THREADS * rate * 1e9)
    inside = sum(level["seconds"] for level in levels)
    print(f"ResidualKMeans {ours:.2f} s: {ours - inside:.2f} s before level 0, {inside / steps:.3f} s per iteration,")
    print(f"  {inside / steps - products:.3f} s of it outside matrix products (iterations include the end of a level)")
    from threadpoolctl import threadpool_info

    known = [blas.get("architecture") for blas in threadpool_info() if "numpy" in blas["filepath"]]
    faiss_runs = {}
    for kernels in {None, *known}:
        runs = [run_faiss(path, kernels, f"{path}/../faiss.npy") for _ in range(args.repeats)]
        faiss_runs[kernels] = min(runs)
        ratio = ours / faiss_runs[kernels]
        print(f"faiss, kernels {kernels or 'as installed'}: {faiss_runs[kernels]:.2f} s, ratio {ratio:.2f}")
    theirs = relative_errors(path, args.dim, np.load(f"{path}/../faiss.npy"))
    for level, both in enumerate(zip(relative_errors(path, args.dim, model.codebooks), theirs)):
        print(f"relative error after level {level}: {both[0]:.5f}, faiss {both[1]:.5f}, {both[0] / both[1] - 1:+.2%}")
    if args.all:
        centroids, seconds = fit_with_scikit_learn(path, args)
        error = relative_errors(path, args.dim, centroids)[0]
        print(f"MiniBatchKMeans, one level: {seconds:.2f} s, relative error {error:.5f}")
        seconds = fit_with_mllib(path, args)
        print(f"Spark MLlib KMeans, one level: {seconds:.2f} s, ratio {seconds / (ours / args.levels):.1f} x ours")


def main() -> None:
    """Print times, ratios and errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--codebook-size", type=int, default=256)
    parser.add_argument("--levels", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the fastest counts")
    parser.add_argument("--all", action="store_true", help="compare with MLlib and scikit-learn, too")
    parser.add_argument("--workers", action="store_true", help="only compare 1 with 2 workers of one thread")
    parser.add_argument(
        "--linear", type=int, default=0, help="only compare seconds per row at --rows and at this number of rows"
    )
    parser.add_argument("--faiss-only", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.faiss_only:
        codebooks, seconds = fit_with_faiss(args.faiss_only[0], args)
        np.save(args.faiss_only[1], codebooks)
        print(seconds)
        return
    print(f"{args.rows} x {args.dim}, K = {args.codebook_size}, L = {args.levels}, {args.iterations} iterations")
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(path := f"{folder}/rows")
        write_clustered_rows(path, args.rows, args.dim, clusters=2 * args.codebook_size)
        if args.workers:
            one, two = (fit_with_spark(path, args, workers)[1] for workers in (1, 2))
            print(f"1 worker {one:.2f} s, 2 workers {two:.2f} s: {one / two:.2f} x")
        elif args.linear:
            few = fit_with_spark(path, args)[1] / args.rows
            write_clustered_rows(path, args.linear, args.dim, clusters=2 * args.codebook_size)
            many = fit_with_spark(path, args)[1] / args.linear
            print(f"{1e6 * few:.2f} us per row, {1e6 * many:.2f} at {args.linear} rows: {many / few:.2f} x")
        else:
            compare(path, args)


if __name__ == "__main__":
    main()
