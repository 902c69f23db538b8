"""Share of items that keep their semantic ID in a refit, and the error: a refit against a fresh fit and old codebooks.

A catalog gets 10% new items, half of them in new clusters, and 5% changed embeddings. Compared on it are the old codebooks,
a fit from scratch whose codes are relabeled by optimal assignment, and the refit. Errors are divided by the error of a fresh
fit with each item at its nearest codes. You can use embeddings of your own from a Parquet file with a column ``embedding``.
Then a random eleventh of its rows are the new items. ::

    python benchmarks/refit_codebooks.py --rows 100000 --dim 64 --codebook-size 256
    python benchmarks/refit_codebooks.py --embeddings embeddings.parquet --codebook-size 64
    python benchmarks/refit_codebooks.py --last-codebook-size 4096 # FSQ in place of the last level
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np
import pyarrow.parquet as pq

KEEP_WITHIN = 0.1


def clustered(rows: int, dim: int, clusters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings before (B, D) and after (1.1 B, D), and a mask (B,) of the first B that did not change."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(clusters * 11 // 10, dim)).astype(np.float32)

    def draw(centers: np.ndarray, size: int) -> np.ndarray:
        members = (len(centers) * random.random(size) ** 2).astype(int)  # clusters of unequal size
        return _unit(centers[members] + 0.5 * random.normal(size=(size, dim)).astype(np.float32))

    before, known = draw(centers[:clusters], rows), centers[:clusters]
    came = np.concatenate([draw(known, rows // 20), draw(centers[clusters:], rows // 20)])
    after, same = before.copy(), np.ones(rows, bool)
    changed = random.choice(rows, rows // 20, replace=False)
    after[changed], same[changed] = draw(known, len(changed)), False
    return before, np.concatenate([after, came]), same


def drawn(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the same from a file. A changed embedding has a cosine of about 0.9 to the old one."""
    random = np.random.default_rng(0)
    column = pq.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
    every = column.flatten().to_numpy().astype(np.float32).reshape(len(column), -1)
    every = _unit(every[random.permutation(len(every))])
    rows, dim = len(every) * 10 // 11, every.shape[1]
    after, same = every.copy(), np.ones(rows, bool)
    changed = random.choice(rows, rows // 20, replace=False)
    noise = 0.5 * random.normal(size=(len(changed), dim)).astype(np.float32) / np.sqrt(dim)
    after[changed], same[changed] = _unit(every[changed] + noise), False
    return every[:rows], after, same


def compare(before: np.ndarray, after: np.ndarray, same: np.ndarray, args: argparse.Namespace) -> None:
    """Fit, refit and print one line for each variant."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    from qarm_features.codebooks.errors import sum_errors
    from qarm_features.codebooks.level_figures import fitted_levels
    from qarm_features.codebooks.refit import kept_codes, refit_codebooks
    from qarm_features.evaluation.balance import shared_ids

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", "4g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "4")
    spark = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()

    def items(embeddings: np.ndarray):
        import pyarrow as pa

        offsets = np.arange(0, embeddings.size + 1, embeddings.shape[1], dtype=np.int32)
        lists = pa.ListArray.from_arrays(offsets, embeddings.ravel())
        table = pa.table({"item_id": np.arange(len(embeddings)), "embedding": lists})
        return spark.createDataFrame(table).repartition(4, "item_id").persist()

    estimator, now = quantizer(args), items(after)
    old = estimator.fit(items(before))
    old_ids = old.transform(items(before)).select("item_id", "rq_codes").persist()
    unchanged = spark.createDataFrame([(int(i),) for i in np.flatnonzero(same)], "item_id long")
    unchanged = old_ids.join(unchanged, on="item_id", how="left_semi").persist()
    other = estimator.copy({estimator.seed: 1})
    started = time.perf_counter()
    fresh = other.fit(now)
    fresh_seconds = time.perf_counter() - started
    best = fitted_levels(fresh, now)[-1]["relative_error"]

    def show(name: str, model, limit: float | None, seconds: float) -> None:
        was = old_ids.select("item_id", F.col("rq_codes").alias("old_codes"))
        coded = model.transform(now.join(was, on="item_id", how="left"))
        if limit is not None:
            coded = coded.withColumn("rq_codes", kept_codes(model.codebooks, limit))
        coded = coded.persist()
        sums, _ = sum_errors(coded, model.codebooks)
        kept = shared_ids(unchanged, coded, num_levels=args.levels)
        levels = " / ".join(f"{share:.1%}" for share in kept["levels"])
        error = sums.errors[-1] / sums.energy
        print(
            f"  {name:38} full IDs kept {kept['semantic_ids']:6.1%}  per level {levels}  "
            f"error {error:.4f}, ratio to a fresh fit {error / best:.4f}  {seconds:.1f} s",
            flush=True,
        )
        coded.unpersist()

    print(
        f"{len(before):,} items, then {len(after):,}; D = {after.shape[1]}, {args.levels} levels of {args.codebook_size}"
        + (f", the last FSQ of {old.level_sizes[-1]}" if args.last_codebook_size else "")
    )
    show("old codebooks, frozen", old, None, 0.0)
    show("fresh fit, labels as they come", fresh, None, fresh_seconds)
    ways = {"refit": (estimator, old), "from scratch, relabeled, then as refit": (other, None)}
    for name, (way, start) in ways.items():
        started = time.perf_counter()
        refit = refit_codebooks(now, old_ids, way, old=start, old_sizes=old.level_sizes, keep_within=KEEP_WITHIN)
        show(name, refit.model, refit.keep_limit, time.perf_counter() - started)
    spark.stop()


def quantizer(args: argparse.Namespace):
    """Return the estimator with seed 0."""
    from qarm_features.quantizers import ResidualKMeans, ResidualKMeansFiniteScalar

    sizes = {"codebookSize": args.codebook_size, "maxIter": args.iterations, "seed": 0}
    if args.last_codebook_size:
        last = args.last_codebook_size
        return ResidualKMeansFiniteScalar(numLevels=args.levels - 1, lastCodebookSize=last, **sizes)
    return ResidualKMeans(numLevels=args.levels, **sizes)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main() -> None:
    """Print the shares of stable IDs and the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--codebook-size", type=int, default=256)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--last-codebook-size", type=int, help="number of codes of a last level by finite scalars")
    parser.add_argument("--embeddings", help="Parquet file with a column embedding, in place of synthetic embeddings")
    args = parser.parse_args()
    data = drawn(args.embeddings) if args.embeddings else clustered(args.rows, args.dim, 2 * args.codebook_size)
    compare(*data, args)


if __name__ == "__main__":
    main()
