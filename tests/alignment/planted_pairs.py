"""Make a catalog in which only a small part of an item's vector shows which items are bought together."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from qarm_features.encoders.item_encoder import ItemEncoder

SIGNAL, NOISE = 4, 8
DIM = SIGNAL + NOISE


def write_planted_source(
    folder: Path, *, num_items: int = 120, num_groups: int = 12, num_pairs: int = 600, parts: int = 2, **columns
) -> Path:
    """Writes items and pairs as Spark would, in several parts and out of order.

    The vector of an item is a weak code of its group (4 numbers) and strong noise (8 numbers). The items of a pair
    belong to one group.
    """
    rng = np.random.default_rng(0)
    group = np.arange(num_items) % num_groups
    code = rng.normal(size=(num_groups, SIGNAL))[group]
    vectors = np.concatenate([0.3 * code, rng.normal(size=(num_items, NOISE))], 1).astype(np.float32)
    rows = {"item_index": np.arange(num_items), "precomputed": pa.array(list(vectors))} | columns
    trigger = rng.integers(0, num_items, num_pairs)
    target = (trigger + num_groups * rng.integers(1, num_items // num_groups, num_pairs)) % num_items
    pairs = {
        "trigger_index": trigger,
        "target_index": target,
        "weight": rng.random(num_pairs) + 0.1,
        "split": np.where(rng.random(num_pairs) < 0.2, "valid", "train"),
    }
    for name, table in {"items": pa.table(rows), "pairs": pa.table(pairs)}.items():
        (folder / name).mkdir(parents=True)
        table = table.take(rng.permutation(len(table)))
        for part in range(parts):
            pq.write_table(table.slice(part * len(table) // parts, -(-len(table) // parts)),
                           folder / name / f"part-{part}.parquet")  # fmt: skip
    return folder


def planted_encoder(dropout: float = 0.0) -> ItemEncoder:
    """Builds an encoder of the vectors alone."""
    q_former = {"num_queries": 2, "dim": 16, "num_layers": 1, "num_heads": 2, "dropout": dropout}
    return ItemEncoder({"precomputed": {"dim": DIM}}, q_former=q_former)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Reads the weights of a saved encoder."""
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Returns whether two sets of weights are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
