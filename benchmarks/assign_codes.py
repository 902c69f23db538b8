"""Time to assign codes to a whole catalog, Delta to Delta: ``ResidualKMeansModel`` on local Spark against faiss.

Both read the same Delta table of embeddings, assign L levels and write a Delta table of codes. The peer is one process that
streams Arrow batches with delta-rs through one flat faiss index per level, on as many threads. The ratio is our rows per
second divided by the peer's. The codes are compared, too. They may differ where two centroids are equally near up to the
rounding of float32.

Usage: python benchmarks/assign_codes.py --rows 1000000 --dim 128 --codebook-size 256 --levels 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time

import numpy as np
import pyarrow as pa

THREADS, BATCH_ROWS = 2, 65_536


def write_catalog(spark, folder: str, rows: int, dim: int, clusters: int) -> None:
    """Write the Delta table ``embeddings`` with item_id and an embedding of unit norm."""
    from fit_codebooks import write_clustered_rows

    os.mkdir(f"{folder}/rows")
    write_clustered_rows(f"{folder}/rows", rows, dim, clusters)
    table = spark.read.parquet(f"{folder}/rows").selectExpr("monotonically_increasing_id() AS item_id", "embedding")
    table.write.format("delta").save(f"{folder}/embeddings")


def assign_with_spark(spark, folder: str, codebooks: np.ndarray) -> float:
    """Write the Delta table ``ours`` and return the seconds."""
    from qarm_features.quantizers import ResidualKMeansModel
    from qarm_features.quantizers.code_columns import codes_beside

    start = time.perf_counter()
    model = ResidualKMeansModel.from_codebooks(codebooks)
    rows = codes_beside(model, spark.read.format("delta").load(f"{folder}/embeddings"), "item_id")
    rows.write.format("delta").mode("overwrite").save(f"{folder}/ours")
    return time.perf_counter() - start


def assign_with_faiss(folder: str, codebooks: np.ndarray) -> float:
    """Write the Delta table ``theirs`` and return the seconds."""
    import faiss
    from deltalake import DeltaTable, write_deltalake
    from fit_codebooks import touch_faiss_buffers

    faiss.omp_set_num_threads(THREADS)
    touch_faiss_buffers()
    pa.set_cpu_count(THREADS)
    shutil.rmtree(f"{folder}/theirs", ignore_errors=True)
    start = time.perf_counter()
    indexes = []
    for centroids in codebooks:
        indexes.append(faiss.IndexFlatL2(centroids.shape[1]))
        indexes[-1].add(centroids)
    dataset = DeltaTable(f"{folder}/embeddings").to_pyarrow_dataset()

    def batches():
        for batch in dataset.to_batches(columns=["item_id", "embedding"], batch_size=BATCH_ROWS):
            residuals = batch.column(1).flatten().to_numpy().reshape(len(batch), -1).copy()
            codes = np.empty((len(batch), len(codebooks)), np.int32)
            for level, index in enumerate(indexes):
                codes[:, level] = index.search(residuals, 1)[1][:, 0]
                residuals -= codebooks[level][codes[:, level]]
            offsets = np.arange(0, codes.size + 1, codes.shape[1], dtype=np.int32)
            lists = pa.ListArray.from_arrays(offsets, codes.ravel())
            yield pa.record_batch([batch.column(0), lists], schema)

    schema = pa.schema({"item_id": pa.int64(), "rq_codes": pa.list_(pa.int32())})
    write_deltalake(f"{folder}/theirs", pa.RecordBatchReader.from_batches(schema, batches()))
    return time.perf_counter() - start


def share_of_equal_codes(spark, folder: str) -> float:
    """Return the share of items whose codes are the same in both tables."""
    ours, theirs = (spark.read.format("delta").load(f"{folder}/{name}") for name in ("ours", "theirs"))
    both = ours.join(theirs.withColumnRenamed("rq_codes", "their_codes"), on="item_id", how="inner")
    return both.selectExpr("avg(cast(rq_codes = their_codes AS double))").first()[0]


def main() -> None:
    """Print seconds and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--codebook-size", type=int, default=256)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turns; the fastest counts")
    args = parser.parse_args()
    from qarm_features.jobs.spark_session import start_session
    from qarm_features.quantizers import ResidualKMeans
    from qarm_features.settings.sections import SparkOptions

    # The session is that of the jobs. With Spark's defaults the bookkeeping of Delta takes longer than the rows.
    spark = start_session(SparkOptions(master=f"local[{THREADS}]"), name="benchmark")
    with tempfile.TemporaryDirectory() as folder:
        write_catalog(spark, folder, args.rows, args.dim, clusters=2 * args.codebook_size)
        sample = spark.read.format("delta").load(f"{folder}/embeddings").limit(20 * args.codebook_size)
        kmeans = ResidualKMeans(numLevels=args.levels, codebookSize=args.codebook_size, maxIter=3)
        codebooks = kmeans.fit(sample).codebooks
        ours, theirs = [], []
        for _ in range(args.repeats):
            ours.append(assign_with_spark(spark, folder, codebooks))
            theirs.append(assign_with_faiss(folder, codebooks))
        print(f"{args.rows} x {args.dim}, K = {args.codebook_size}, L = {args.levels}, Delta to Delta")
        for name, seconds in (("ResidualKMeansModel", ours), ("faiss, one process", theirs)):
            shown = ", ".join(f"{one:.2f}" for one in seconds)
            print(f"{name}: {shown} s, {args.rows / min(seconds):,.0f} rows/s")
        print(f"ratio of our rows per second to the peer's: {min(theirs) / min(ours):.2f}")
        print(f"items with equal codes: {share_of_equal_codes(spark, folder):.4%}")
    spark.stop()


if __name__ == "__main__":
    main()
