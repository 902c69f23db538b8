"""The AUC of the ranking model of ``ranking_ml1m`` with the codes of a rival in place of its own.

In: MovieLens-1M as prepared, and codes by item ID. Out: AUC on valid and test.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from ranking_ml1m.training import train
from ranking_ml1m.variants import Row
from ranking_project.jobs import Prepared
from ranking_project.world import World, load, load_features

from qarm_features.ranking import ItemSources, RankingBatch
from qarm_features.ranking.data.item_vocabulary import item_vocabulary

_ROW = Row("item IDs and codes", "", {"use_semantic_ids": True, "use_match": True})
_WITHOUT = Row("item IDs", "", {})


class RankingWorld:
    """Training rows in memory, whose codes can be exchanged.

    Args:
        prepared: Files of a project of ``ranking_ml1m``.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.world = load(prepared)
        sources = ItemSources(prepared.embeddings, prepared.nearest_items, prepared.content)
        vocabulary, _ = load_features(item_vocabulary(prepared.rows["train"]), sources)  # load keeps no item IDs
        self.ids = np.asarray(vocabulary.ids)

    def aucs(self, item_id: np.ndarray, codes: np.ndarray | None, sizes: list[int], *, seed: int, threads: int) -> dict:
        """Train with codes, or without any, and return ``auc_valid`` and ``auc``, on test.

        Args:
            item_id: (I,) item IDs, ascending.
            codes: (I, L) codes, or None.
            sizes: Number of codes of each level.
            seed: Seed of the ranking model.
            threads: Number of torch threads.
        """
        world, row = self.world, _WITHOUT
        if codes is not None:
            world, row = self._with_codes(item_id, codes, max(sizes)), _ROW
        found = train(row, "A", world, seed=seed, threads=threads)
        return {"auc_valid": found["valid"]["auc"], "auc": found["test"]["auc"]}

    def _with_codes(self, item_id: np.ndarray, codes: np.ndarray, codebook_size: int) -> World:
        by_index = np.full((len(self.ids) + 1, codes.shape[1]), -1, np.int64)
        place = np.clip(np.searchsorted(item_id, self.ids), 0, len(item_id) - 1)
        has = item_id[place] == self.ids
        by_index[1:][has] = codes[place[has]]
        table = torch.from_numpy(by_index)
        rows = {split: _exchanged(batch, table) for split, batch in self.world.rows.items()}
        about = {**self.world.codes, "num_levels": codes.shape[1], "codebook_size": codebook_size}
        return replace(self.world, rows=rows, codes=about)


def _exchanged(batch: RankingBatch, table: torch.Tensor) -> RankingBatch:
    """Return a batch with the codes of its items from a table (I + 1, L)."""
    changed = {"item_codes": table[batch.item_index], "behavior_codes": table[batch.behavior_index]}
    if batch.impression_index is not None:
        changed["impression_codes"] = table[batch.impression_index]
    return batch._replace(**changed)
