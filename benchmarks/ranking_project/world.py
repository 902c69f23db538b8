"""A project is loaded into memory: its training rows as three large batches, and its item features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from qarm_features.ranking import (
    ItemFeatures,
    ItemSources,
    ItemVocabulary,
    RankingBatch,
    TrainingRows,
    write_item_features,
)
from qarm_features.ranking.data.item_counts import ItemCounts, count_items_of_files
from qarm_features.ranking.data.item_feature_files import open_item_features
from qarm_features.ranking.data.item_vocabulary import item_vocabulary
from ranking_project.jobs import SPLITS, Prepared

LENGTH = 50  # T and T2


@dataclass(frozen=True)
class World:
    """A project in memory.

    Attributes:
        rows: All rows of each split as one batch.
        features: Item features of all items of the catalog.
        counts: Positives and impressions of the train split by item index.
        num_known: Number of items in the train split. Their indexes come first.
        codes: ``num_levels``, ``codebook_size`` and ``codebook_version``.
        encoder: Folder of the encoder version.
    """

    rows: dict[str, RankingBatch]
    features: ItemFeatures
    counts: ItemCounts
    num_known: int
    codes: dict[str, int]
    encoder: str


def load(prepared: Prepared) -> World:
    """Load a project into memory."""
    known = item_vocabulary(prepared.rows["train"])
    vocabulary, features = load_features(
        known, ItemSources(prepared.embeddings, prepared.nearest_items, prepared.content)
    )
    rows = {split: _whole(prepared.rows[split], vocabulary, prepared.codes["num_levels"]) for split in SPLITS}
    counts = count_items_of_files(prepared.rows["train"], known)
    return World(rows, features, counts, vocabulary.num_known, prepared.codes, prepared.encoder)


def load_features(known: ItemVocabulary, sources: ItemSources) -> tuple[ItemVocabulary, ItemFeatures]:
    """Load item features into memory, and return them with the vocabulary of all items that a source holds."""
    with TemporaryDirectory() as folder:
        write_item_features(folder, known, sources)
        vocabulary, features = open_item_features(Path(folder))
        features.vectors = np.array(features.vectors)  # a small copy in memory, because the folder is deleted
        features.nearest_items = np.array(features.nearest_items)
        features.nearest_distances = np.array(features.nearest_distances)
        features.content_rows = np.array(features.content_rows)
    return vocabulary, features


def _whole(files: list[str], vocabulary: ItemVocabulary, num_levels: int) -> RankingBatch:
    rows = TrainingRows(files, vocabulary, num_levels=num_levels, batch_size=10**9, behavior_length=LENGTH)
    (batch,) = rows
    return batch
