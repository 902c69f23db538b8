"""A saved model scores one user and 500 candidates: from Redis to probabilities, against the forward pass alone.

A request is read (``SemanticIDReader``: behavior, then all codes), encoded (item IDs to indexes) and scored (``Scorer``).
The peers run in turn on the same requests: the forward pass on ready tensors, and the same with the user's row repeated for
every candidate, as in training batches. The weights are random, because the time does not depend on them.

    python benchmarks/score_candidates.py                                  # 100,000 items
    python benchmarks/score_candidates.py --items 10000 --requests 50
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from read_features import CODES, LEVELS, USERS, redis_server, write_catalog

from qarm_features.feature_store import SemanticIDReader
from qarm_features.ranking import (
    Calibration,
    ItemSources,
    ItemVocabulary,
    RankingModel,
    Scorer,
    open_item_features,
    write_item_content,
    write_item_features,
)
from qarm_features.ranking.data.ranking_batch import RankingBatch
from qarm_features.ranking.model.variants import VARIANTS
from qarm_features.ranking.train.model_folder import save_model_folder

NAMES = ("item IDs + semantic IDs", "+nearest items, match", "+EM3")
PARTS = ("fetch", "encode", "model", "request", "forward alone", "user repeated")
TOKENS, TOKEN_DIM, NEAREST = 4, 64, 25


def main() -> None:
    """Print latencies of each part of a request, and their ratios to the forward pass."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--items", type=int, default=100_000, help="number of items in the catalog")
    arguments.add_argument("--candidates", type=int, default=500)
    arguments.add_argument(
        "--requests", type=int, default=500, help="number of requests to each model; the first tenth is not counted"
    )
    arguments.add_argument("--threads", type=int, default=1, help="number of torch threads")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    with redis_server() as port, tempfile.TemporaryDirectory() as folder:
        write_catalog(Path(folder), port, options.items)
        features = write_features(Path(folder) / "items", options.items)
        reader = SemanticIDReader(Path(folder) / "feature_repo", "item_semantic_id__cb0")
        print(
            f"{options.items:,} items, {os.cpu_count()} cores, {options.threads} threads, load {os.getloadavg()[0]:.1f}"
        )
        for name in NAMES:
            started = time.perf_counter()
            scorer = saved_and_opened(Path(folder) / name.replace(" ", "_"), features, name)
            print(f"{name}: saved and opened in {time.perf_counter() - started:.1f} s")
            measure(scorer, reader, options)


def measure(scorer: Scorer, reader: SemanticIDReader, options: argparse.Namespace) -> None:
    """Score requests and print p50 and p99 of each part."""
    random, seconds = np.random.default_rng(0), {part: [] for part in PARTS}
    for number in range(options.requests):
        user, items = int(random.integers(USERS)), random.choice(options.items, options.candidates).tolist()
        times = [time.perf_counter()]
        read = reader.user_and_candidates(user, items, max_length=scorer.behavior_length)
        times.append(time.perf_counter())
        batch = scorer.encode(items, read.candidates, read.behavior, at=1_800_000_000.0)
        times.append(time.perf_counter())
        chances = scorer.score_batch(batch)
        times.append(time.perf_counter())
        repeated = user_repeated(batch)
        alone = {"forward alone": batch, "user repeated": repeated}
        for name in np.roll(list(alone), number):
            started = time.perf_counter()
            with torch.inference_mode():
                logits = scorer.model(alone[name])
            alone[name] = time.perf_counter() - started
        torch.testing.assert_close(torch.sigmoid(logits), chances, atol=1e-4, rtol=1e-3)
        for part, passed in zip(PARTS, [*np.diff(times), times[-1] - times[0], *alone.values()]):
            seconds[part].append(passed)
    counted = {part: np.array(values[options.requests // 10 :]) for part, values in seconds.items()}
    for part, values in counted.items():
        p50, p99 = np.quantile(values, [0.5, 0.99]) * 1000
        print(f"{part:>16}: p50 {p50:6.2f} ms, p99 {p99:6.2f} ms")
    whole = np.median(counted["request"])
    for part in PARTS[-2:]:
        print(f"{'request':>16}: {whole / np.median(counted[part]):.2f} times {part}")


def user_repeated(batch: RankingBatch) -> RankingBatch:
    """Return the batch with a row of the user for every candidate."""
    rows = len(batch.item_index)
    return RankingBatch(
        *(field if field is None or len(field) == rows else field.repeat_interleave(rows, dim=0) for field in batch)
    )


def write_features(folder: Path, items: int) -> Path:
    """Write VQ codes and content tokens of all items. Nine tenths of them are items of the training rows."""
    folder.mkdir()
    random = np.random.default_rng(0)
    nearest = random.integers(items, size=(items, NEAREST))
    similarities = -np.sort(-random.random((items, NEAREST), dtype=np.float32), axis=1)
    table = {"item_id": np.arange(items), "vq_codes": list(nearest), "vq_similarities": list(similarities)}
    pq.write_table(pa.table(table), folder / "nearest.parquet")
    tokens = random.normal(size=(items, TOKENS, TOKEN_DIM)).astype(np.float16)
    write_item_content(folder / "content", np.arange(items), {"text": (tokens, np.ones((items, TOKENS), bool))})
    sources = ItemSources(nearest_item_files=[str(folder / "nearest.parquet")], content_folder=folder / "content")
    write_item_features(folder / "features", ItemVocabulary(pa.array(np.arange(items * 9 // 10))), sources)
    return folder / "features"


def saved_and_opened(folder: Path, features: Path, variant: str) -> Scorer:
    """Save an untrained model as training does, and open it as serving does."""
    torch.manual_seed(0)
    vocabulary, known = open_item_features(features)
    codes = {"num_levels": LEVELS, "codebook_size": CODES, "codebook_version": 0, "token_dims": {"text": TOKEN_DIM}}
    model = RankingModel(num_items=vocabulary.num_known, **codes, **VARIANTS[variant])
    model.set_item_features(known)
    trained_on = ItemVocabulary(pa.array(vocabulary.ids[: vocabulary.num_known]))
    metrics = {"options": {"behavior_length": 50}}
    save_model_folder(
        folder, model, vocabulary=vocabulary, trained_on=trained_on, calibration=Calibration(), metrics=metrics
    )
    return Scorer.open(folder, item_features=features)


if __name__ == "__main__":
    main()
