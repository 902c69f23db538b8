"""The projects are opened when a run needs them, and what it reads of them is held in memory.

In: the data and the folder of all projects. Out: a ``World`` for an encoder and a codebook. The rows are read once.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ranking_project import jobs
from ranking_project.world import World, load_features
from torch import Tensor

from qarm_features.ranking import ItemSources, ItemVocabulary
from qarm_features.ranking.data.item_counts import count_items
from ranking_completejourney import pipeline
from ranking_completejourney.past_counts import PastCounts
from ranking_completejourney.rows import impression_rows, read_histories, require_no_leak
from ranking_completejourney.source import VALID_FROM, Source, log_of
from ranking_completejourney.variants import Run


class Worlds:
    """The data of the runs.

    Args:
        folder: Folder of the projects.
        source: The data of the projects.
        impressions: Impressions that train and test the models, all of ``source`` or some of them.
        counts: Past counts of these impressions.
    """

    def __init__(self, folder: Path, source: Source, impressions: pd.DataFrame, counts: PastCounts) -> None:
        self.folder, self.source, self.impressions, self.counts = folder, source, impressions, counts

    def of(self, run: Run) -> tuple[World, Tensor]:
        """Return the data of a run, and the codes (I + 1, L) int64 of all items."""
        world = self._features(run.encoder)
        codes = self._codes(run.encoder, run.codebook or 0)
        return world, codes

    def prepared(self, encoder: int | None) -> jobs.Prepared:
        """Return the files of the project of an encoder."""
        return self._project(encoder)[1]

    def vocabulary(self, encoder: int | None) -> ItemVocabulary:
        """Return the items of the project of an encoder, those of the train rows first."""
        return self._project(encoder)[2]

    @functools.cached_property
    def known(self) -> ItemVocabulary:
        """The products of the train rows."""
        train = self.impressions.week < VALID_FROM
        return ItemVocabulary(self.impressions.product_id[train].unique().tolist())

    @functools.cached_property
    def _rows(self) -> dict:
        _, prepared, vocabulary, _ = self._project(None)
        codes = self._codes(None, 0)
        files = [file for split in jobs.SPLITS for file in prepared.rows[split]]
        histories = read_histories(files, vocabulary, codes=codes.numpy())
        require_no_leak(histories, log_of(self.source))
        return impression_rows(self.impressions, self.counts, histories, vocabulary)

    @functools.cache  # noqa: B019  # lives as long as the process
    def _project(self, encoder: int | None) -> tuple:
        name = pipeline.UNALIGNED if encoder is None else f"aligned-{encoder}"
        context = pipeline.open_project(self.folder / name, self.source, seed=encoder)
        pipeline.run(context)
        frozen = None if encoder is None else self._project(None)[1]
        prepared = jobs.prepared(context) if encoder is None else pipeline.prepared_aligned(context, frozen)
        sources = ItemSources(prepared.embeddings, prepared.nearest_items, prepared.content)
        return context, prepared, *load_features(self.known, sources)

    @functools.cache  # noqa: B019  # lives as long as the process
    def _features(self, encoder: int | None) -> World:
        _, prepared, vocabulary, features = self._project(encoder)
        counts = count_items([self._rows["train"]], vocabulary.num_known)
        return World(self._rows, features, counts, vocabulary.num_known, prepared.codes, prepared.encoder)

    @functools.cache  # noqa: B019  # lives as long as the process
    def _codes(self, encoder: int | None, codebook: int) -> Tensor:
        context, _, vocabulary, _ = self._project(encoder)
        version = pipeline.fit_codebooks_with(context, context.settings.seed + codebook)
        codes = pipeline.codes_of(context, version, vocabulary.ids.to_numpy())
        return torch.from_numpy(np.concatenate([np.full((1, codes.shape[1]), -1), codes]))
