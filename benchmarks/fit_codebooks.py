"""Times fitting codebooks on Parquet, reading included: `ResidualKMeans` on local Spark against faiss in memory.

Usage: python benchmarks/fit_codebooks.py --rows 200000 --dim 128 --codebook-size 256
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

THREADS = 2


def write_clustered_rows(path: str, rows: int, dim: int, clusters: int) -> None:
    """Writes rows of unit norm in clusters of unequal size to a few Parquet files."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(clusters, dim)).astype(np.float32)
    for part, size in enumerate(np.full(4, rows // 4)):
        members = (clusters * generator.random(size) ** 2).astype(int)
        embeddings = centers[members] + 0.7 * generator.normal(size=(size, dim)).astype(np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        lists = pa.ListArray.from_arrays(np.arange(0, embeddings.size + 1, dim, dtype=np.int32), embeddings.ravel())
        pq.write_table(pa.table({"embedding": lists}), f"{path}/part-{part}.parquet")


def read_rows(path: str, dim: int) -> np.ndarray:
    """Reads all rows (B, D) into memory."""
    column = pq.read_table(path)["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(-1, dim)


def fit_with_spark(path: str, args: argparse.Namespace) -> tuple[np.ndarray, float]:
    """Returns codebooks (L, K, D) and seconds; the start of the session, its JVM and its workers is not counted."""
    from pyspark.sql import SparkSession

    from qarm_features.quantizers import ResidualKMeans

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{THREADS}]").config("spark.driver.memory", "4g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "4")
    spark = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    estimator = ResidualKMeans(
        numLevels=args.levels, codebookSize=args.codebook_size, maxIter=args.iterations, tol=0.0, seed=0
    )
    estimator.copy({estimator.maxIter: 2}).fit(spark.read.parquet(path).limit(20 * args.codebook_size))  # warms up
    start = time.perf_counter()
    model = estimator.fit(spark.read.parquet(path))
    seconds = time.perf_counter() - start
    for level in model.training_summary:
        print(f"  level {level['level']}: {level['seconds']:.1f} s, {level['iterations']} iterations")
    spark.stop()
    return model.codebooks, seconds


def fit_with_faiss(path: str, args: argparse.Namespace) -> tuple[np.ndarray, float]:
    """Returns codebooks (L, K, D) of faiss.Kmeans level by level over all rows, and seconds."""
    import faiss

    faiss.omp_set_num_threads(THREADS)
    start = time.perf_counter()
    residuals, codebooks = read_rows(path, args.dim), []
    for level in range(args.levels):
        kmeans = faiss.Kmeans(
            args.dim, args.codebook_size, niter=args.iterations, seed=level, max_points_per_centroid=2**31 - 1
        )
        kmeans.train(residuals)
        codebooks.append(kmeans.centroids)
        residuals = residuals - kmeans.centroids[kmeans.index.search(residuals, 1)[1][:, 0]]
    return np.stack(codebooks), time.perf_counter() - start


def errors_by_level(embeddings: np.ndarray, codebooks: np.ndarray) -> list[float]:
    """Returns the relative error in [0, 1] after each level."""
    from qarm_features.quantizers.lloyd import nearest_codes

    energy, residuals, errors = np.vdot(embeddings, embeddings), embeddings, []
    for centroids in codebooks:
        residuals = residuals - centroids[nearest_codes(residuals, centroids)]
        errors.append(float(np.vdot(residuals, residuals) / energy))
    return errors


def main() -> None:
    """Prints both times, their ratio and both errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--codebook-size", type=int, default=256)
    parser.add_argument("--levels", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as path:
        write_clustered_rows(path, args.rows, args.dim, clusters=2 * args.codebook_size)
        spark_codebooks, spark_seconds = fit_with_spark(path, args)
        faiss_codebooks, faiss_seconds = fit_with_faiss(path, args)
        embeddings = read_rows(path, args.dim)
    print(
        f"{len(embeddings)} x {args.dim}, K = {args.codebook_size}, {args.levels} levels, {args.iterations} iterations"
    )
    print(
        f"ResidualKMeans {spark_seconds:.2f} s, faiss {faiss_seconds:.2f} s, ratio {spark_seconds / faiss_seconds:.2f}"
    )
    for level, both in enumerate(zip(*(errors_by_level(embeddings, c) for c in (spark_codebooks, faiss_codebooks)))):
        print(f"relative error after level {level}: ResidualKMeans {both[0]:.5f}, faiss {both[1]:.5f}")


if __name__ == "__main__":
    main()
