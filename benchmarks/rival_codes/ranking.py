"""The AUC of the ranking model of ``ranking_ml1m`` with the codes of a rival in place of its own.

In: MovieLens-1M as prepared, and codes by item ID. Out: AUC on valid and test.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from ranking_ml1m.training import train
from ranking_ml1m.variants import Row
from ranking_project.jobs import Prepared
from ranking_project.world import World, load, load_features

from qarm_features.ranking import ItemSources, RankingBatch
from qarm_features.ranking.data.item_vocabulary import item_vocabulary

_ROW = Row("item IDs and codes", "", {"use_semantic_ids": True, "use_match": True})
_WITHOUT = Row("item IDs", "", {})


class Ranking(Protocol):
    """Trains a ranking model with given codes."""

    def aucs(
        self, item_id: np.ndarray, codes: np.ndarray | None, sizes: list[int], *, seed: int, threads: int
    ) -> dict[str, float | None]:
        """Train with codes, or without any, and return ``auc_valid`` and ``auc``, on test, and others by slice.

        Args:
            item_id: (I,) item IDs, ascending.
            codes: (I, L) codes, or None.
            sizes: Number of codes of each level.
            seed: Seed of the ranking model.
            threads: Number of torch threads.
        """


class MovieRanking:
    """Training rows of MovieLens-1M in memory, whose codes can be exchanged.

    Args:
        prepared: Files of a project of ``ranking_ml1m``.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared

    @functools.cached_property
    def world(self) -> World:
        """The rows."""
        return load(self.prepared)

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """The item IDs by item index."""
        sources = ItemSources(self.prepared.embeddings, self.prepared.nearest_items, self.prepared.content)
        known = item_vocabulary(self.prepared.rows["train"])
        return np.asarray(load_features(known, sources)[0].ids)  # load keeps no item IDs

    def aucs(
        self, item_id: np.ndarray, codes: np.ndarray | None, sizes: list[int], *, seed: int, threads: int
    ) -> dict[str, float | None]:
        """Train track A; see ``Ranking``."""
        world, row = self.world, _WITHOUT
        if codes is not None:
            table = by_index(item_id, codes, self.ids)
            rows = {split: _exchanged(batch, table) for split, batch in world.rows.items()}
            world, row = replace(world, rows=rows, codes=about(world, codes, sizes)), _ROW
        found = train(row, "A", world, seed=seed, threads=threads)
        return {"auc_valid": found["valid"]["auc"], "auc": found["test"]["auc"]}


def embeddings_of(prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
    """Return the item IDs (I,), ascending, and the embeddings (I, D) float32 of a project."""
    rows = pd.concat([pd.read_parquet(file, columns=["item_id", "embedding"]) for file in prepared.embeddings])
    rows = rows.sort_values("item_id")
    return rows["item_id"].to_numpy(), np.stack(rows["embedding"]).astype(np.float32)


def by_index(item_id: np.ndarray, codes: np.ndarray, ids: np.ndarray) -> torch.Tensor:
    """Return the codes (I + 1, L) int64 by item index, -1 for padding and for items without codes.

    Args:
        item_id: Item IDs of ``codes``, ascending.
        codes: Codes of these items, L each.
        ids: (I,) item IDs of the vocabulary; index 1 is the first of them.
    """
    found = np.full((len(ids) + 1, codes.shape[1]), -1, np.int64)
    place = np.clip(np.searchsorted(item_id, ids), 0, len(item_id) - 1)
    has = item_id[place] == ids
    found[1:][has] = codes[place[has]]
    return torch.from_numpy(found)


def about(world: World, codes: np.ndarray, sizes: list[int]) -> dict[str, int]:
    """Return the properties of codes (I, L) for the ranking model of a world."""
    return {**world.codes, "num_levels": codes.shape[1], "codebook_size": max(sizes)}


def _exchanged(batch: RankingBatch, table: torch.Tensor) -> RankingBatch:
    """Return a batch with the codes of its items from a table (I + 1, L)."""
    changed = {"item_codes": table[batch.item_index], "behavior_codes": table[batch.behavior_index]}
    if batch.impression_index is not None:
        changed["impression_codes"] = table[batch.impression_index]
    return batch._replace(**changed)
