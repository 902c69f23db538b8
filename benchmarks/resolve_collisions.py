"""Collisions of semantic IDs and their cost in error: as fitted, with a cap, with one more level, with FSQ as last level.

The default data are a million near-duplicates: originals in clusters, each with 20 variants that differ by a thousandth of
its norm. You can use embeddings of your own from a Parquet file with a column ``embedding``. Errors are mean squared errors,
and the cost is their relative increase. ::

    python benchmarks/resolve_collisions.py --rows 1000000
    python benchmarks/resolve_collisions.py --embeddings embeddings.parquet --codebook-size 64 --caps 1 5
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

VARIANTS = 20


def write_near_duplicates(path: str, rows: int, dim: int) -> None:
    """Write embeddings of unit norm to four Parquet files."""
    random = np.random.default_rng(0)
    originals, clusters = rows // VARIANTS, 1000
    centers = random.normal(size=(clusters, dim)).astype(np.float32)
    members = (clusters * random.random(originals) ** 2).astype(int)
    one = _unit(centers[members] + 0.5 * random.normal(size=(originals, dim)).astype(np.float32))
    for part in range(4):
        noise = 0.001 * random.normal(size=(VARIANTS // 4, originals, dim)).astype(np.float32) / np.sqrt(dim)
        _write(f"{path}/part-{part}.parquet", part * rows // 4, _unit((one + noise).reshape(-1, dim)))


def write_again(path: str, source: str) -> None:
    """Write the embeddings of a file, with item IDs from 0."""
    column = pq.read_table(source, columns=["embedding"])["embedding"].combine_chunks()
    embeddings = column.flatten().to_numpy().astype(np.float32).reshape(len(column), -1)
    _write(f"{path}/part-0.parquet", 0, _unit(embeddings))


def measure(path: str, args: argparse.Namespace) -> None:
    """Fit once, with one level more than requested, and print one line for each kind of assignment."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    from qarm_features.codebooks.errors import sum_errors
    from qarm_features.evaluation.balance import semantic_id_quality
    from qarm_features.quantizers import ResidualKMeans, ResidualKMeansFiniteScalar, ResidualKMeansModel
    from qarm_features.semantic_ids.collisions import resolve_overflow

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", "6g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "8")
    spark = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    items = spark.read.parquet(path)
    sizes = {"numLevels": args.levels + 1, "codebookSize": args.codebook_size, "maxIter": args.iterations}
    codebooks = ResidualKMeans(**sizes, seed=0).fit(items).codebooks
    base = None

    def decoded_error(coded, codebooks: np.ndarray) -> float:
        sums, _ = sum_errors(coded, codebooks)
        return float(sums.errors[-1]) / sums.weight

    def show(name: str, coded, error: float, seconds: float) -> float:
        figures = semantic_id_quality(coded, num_levels=args.levels, codebook_size=args.codebook_size)
        cost = "" if base is None else f" ({error / base - 1:+.2%})"
        print(
            f"  {name:34} share their ID {figures['collision_rate']:6.1%}  distinct IDs {figures['semantic_ids']:9,}  "
            f"largest bucket {figures['largest_bucket']:6,}  error {error:.5f}{cost}  {seconds:.1f} s",
            flush=True,
        )
        return error

    def coded_by(codebooks: np.ndarray):
        return ResidualKMeansModel.from_codebooks(codebooks).transform(items).withColumn("kept", F.lit(False)).persist()

    print(f"{items.count():,} items, {args.levels} levels of {args.codebook_size}")
    fewer = codebooks[: args.levels]
    coded = coded_by(fewer)
    base = show("nearest codes", coded, decoded_error(coded, fewer), 0.0)
    no_ids = coded.select("rq_codes").limit(0)
    for cap in args.caps:
        for budget in args.budgets:
            started = time.perf_counter()
            resolved = resolve_overflow(coded, no_ids, fewer, bucket_cap=cap, most_extra=budget * base).persist()
            moved = resolved.where("moved").count()
            seconds = time.perf_counter() - started
            show(f"cap {cap}, budget {budget}: {moved:,} moved", resolved, decoded_error(resolved, fewer), seconds)
            resolved.unpersist()
    coded.unpersist()
    coded = coded_by(codebooks)
    show(f"{args.levels + 1} levels", coded, decoded_error(coded, codebooks), 0.0)
    coded.unpersist()
    sizes = {"numLevels": args.levels - 1, "codebookSize": args.codebook_size, "maxIter": args.iterations}
    scalar = ResidualKMeansFiniteScalar(**sizes, lastCodebookSize=4096, seed=0).fit(items)
    coded = scalar.transform(items).persist()
    show(f"{args.levels - 1} levels, then FSQ of 4,096", coded, _error_of(scalar, coded), 0.0)
    spark.stop()


def _error_of(scalar, coded) -> float:
    """Return the mean squared error of codes that the model itself decodes."""
    from pyspark.sql import functions as F

    from qarm_features.codebooks.errors import matrix

    def squares(batches):
        for batch in batches:
            if batch.num_rows:
                rows = matrix(batch["embedding"]) - scalar.decode_codes(matrix(batch["rq_codes"], np.int32))
                yield pa.RecordBatch.from_pydict({"sse": [float(np.square(rows, dtype=np.float64).sum())]})

    sums = coded.select("embedding", "rq_codes").mapInArrow(squares, "sse double")
    return sums.agg(F.sum("sse")).first()[0] / coded.count()


def _write(path: str, first: int, embeddings: np.ndarray) -> None:
    offsets = np.arange(0, embeddings.size + 1, embeddings.shape[1], dtype=np.int32)
    lists = pa.ListArray.from_arrays(offsets, embeddings.ravel())
    pq.write_table(pa.table({"item_id": np.arange(first, first + len(embeddings)), "embedding": lists}), path)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main() -> None:
    """Print collisions, errors and seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--codebook-size", type=int, default=256)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--caps", type=int, nargs="+", default=[5])
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.5])
    parser.add_argument("--embeddings", help="Parquet file with a column embedding, in place of synthetic embeddings")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as path:
        write_again(path, args.embeddings) if args.embeddings else write_near_duplicates(path, args.rows, args.dim)
        measure(path, args)


if __name__ == "__main__":
    main()
