"""A synthetic project: items around centers in space, and users who click popular items.

In: sizes. Out: a folder with a catalog, a click log and the settings. It is written in parts, so that memory does not grow
with the items.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

_ROWS, _CENTERS, _START_MICROS = 100_000, 1_000, 1_704_067_200_000_000


@dataclass(frozen=True)
class World:
    """Sizes of a synthetic project.

    Attributes:
        items: Number of items N.
        events: Number of labeled impressions, half of them positive.
        users: Number of users.
        dim: Dimension D of the embeddings.
        levels: Number of levels L.
        codebook_size: Number of centroids K of a level.
    """

    items: int
    events: int
    users: int
    dim: int = 256
    levels: int = 3
    codebook_size: int = 64


def write_project(folder: Path, world: World, redis: str) -> None:
    """Write catalog, click log, settings and feature repo.

    Args:
        folder: New folder of the project.
        world: Sizes of the project.
        redis: ``host:port`` of the online store.
    """
    from qarm_features.cli import new_project

    for name in ("items", "log"):
        (folder / "catalog" / name).mkdir(parents=True)
    centers = np.random.default_rng(0).normal(size=(_CENTERS, world.dim)).astype(np.float32)
    for number, start in enumerate(range(0, world.items, _ROWS)):
        rows = items_from(start, min(world.items, start + _ROWS), centers)
        pq.write_table(rows, folder / "catalog" / "items" / f"{number:05}.parquet")
    for number, start in enumerate(range(0, world.events, _ROWS)):
        rows = events_from(start, min(world.events, start + _ROWS), world)
        pq.write_table(rows, folder / "catalog" / "log" / f"{number:05}.parquet")
    (folder / "qarm.yaml").write_text(yaml.safe_dump(settings_of(world)))
    new_project.write_project(folder)
    store = folder / "feature_repo" / "feature_store.yaml"
    config = yaml.safe_load(store.read_text())
    config["online_store"] = {"type": "redis", "connection_string": redis, "skip_dedup": True}
    store.write_text(yaml.safe_dump(config))


def settings_of(world: World) -> dict:
    """Return the settings of the project; all that is not named here has its default."""
    vectors = {"text": [], "precomputed": "vector", "precomputed_dim": world.dim}
    return {
        "items": {"path": "catalog/items", "format": "parquet", **vectors},
        "interactions": {"path": "catalog/log", "format": "parquet", "label": "label"},
        "codebooks": {"num_levels": world.levels, "codebook_size": world.codebook_size},
        "nearest_items": {"exact_up_to": 0},  # the search of a large catalog
        "ranking": {"epochs": 1},
    }


def items_from(start: int, end: int, centers: np.ndarray) -> pa.Table:
    """Return items: vectors (B, D) around the center of each."""
    noise = np.random.default_rng([1, start]).normal(size=(end - start, centers.shape[1])).astype(np.float32)
    vectors = centers[np.arange(start, end) % len(centers)] + 0.5 * noise
    offsets = pa.array(np.arange(0, vectors.size + 1, centers.shape[1]), pa.int32())
    return pa.table({"item_id": np.arange(start, end), "vector": pa.ListArray.from_arrays(offsets, vectors.ravel())})


def events_from(start: int, end: int, world: World) -> pa.Table:
    """Return labeled impressions, a second apart; an item of a low number is clicked more often."""
    random = np.random.default_rng([2, start])
    size = end - start
    return pa.table(
        {
            "user_id": random.integers(world.users, size=size),
            "item_id": (world.items * random.random(size) ** 2).astype(np.int64),
            "event_timestamp": pa.array(
                _START_MICROS + 1_000_000 * np.arange(start, end, dtype=np.int64), pa.timestamp("us", "UTC")
            ),
            "label": random.integers(2, size=size).astype(np.int32),
        }
    )
