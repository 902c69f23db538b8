"""The AUC of a ranking model of ``ranking_completejourney`` with the codes of a rival in place of its own.

In: the projects of that benchmark, and codes by item ID. Out: AUC on valid, on test, and on test rows of new products. A
quarter of the households trains, as in the table of all rows of that benchmark, and the model reads codes of the candidate
alone: no match and no history.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
from ranking_completejourney.past_counts import past_counts
from ranking_completejourney.slices import slices_of_test
from ranking_completejourney.source import DATA, read_source, with_train_share
from ranking_completejourney.training import train
from ranking_completejourney.variants import ITEM_IDS, ROWS, Run
from ranking_completejourney.worlds import Worlds

from .ranking import about, by_index, embeddings_of

TRAIN_SHARE = 0.25
_ROWS = {row.name: row for row in ROWS}
_WITHOUT, _WITH = (Run(_ROWS[name], None, None, 0) for name in (ITEM_IDS, "+ unaligned RQ"))


class JourneyRanking:
    """Rows of The Complete Journey in memory, whose codes can be exchanged.

    Args:
        worlds: The rows and the projects.
        epochs: Largest number of epochs, of which valid chooses one.
    """

    def __init__(self, worlds: Worlds, *, epochs: int = 6) -> None:
        self.worlds, self.epochs = worlds, epochs
        self.slices = slices_of_test(worlds.impressions, worlds.counts.bought)

    @classmethod
    def of_data(cls, folder: Path) -> JourneyRanking:
        """Read the data, with the train rows of a quarter of the households.

        Args:
            folder: The ``--folder`` of ``ranking_completejourney.py``.
        """
        whole = read_source(DATA)
        source = with_train_share(whole, TRAIN_SHARE)
        counts = past_counts(source, source.impressions)
        return cls(Worlds(folder / "projects-1", whole, source.impressions, counts))

    def embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the item IDs (I,), ascending, and their frozen embeddings (I, D) float32."""
        return embeddings_of(self.worlds.prepared(None))

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """The item IDs by item index."""
        return np.asarray(self.worlds.vocabulary(None).ids)

    def aucs(
        self, item_id: np.ndarray, codes: np.ndarray | None, sizes: list[int], *, seed: int, threads: int
    ) -> dict[str, float | None]:
        """Train the rows of a quarter of the households; see ``rival_codes.ranking.Ranking``."""
        run = (_WITHOUT if codes is None else _WITH)._replace(seed=seed)
        world, table = self.worlds.of(run)
        if codes is not None:
            table = by_index(item_id, codes, self.ids)
            world = replace(world, codes=about(world, codes, sizes))
        figures, _ = train(run, world, table, self.slices, threads=threads, epochs=self.epochs)
        test = figures["test"]
        return {"auc_valid": figures["valid"]["auc"], "auc": test["all"], "auc_new": test["new products"]}
