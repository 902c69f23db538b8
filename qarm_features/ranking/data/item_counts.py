"""Counts of how often each item was shown and liked in the training rows.

In: training rows as files or batches. Out: counts by item index, which tell head from tail and cold from popular items.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from qarm_features.ranking.data.item_vocabulary import ItemVocabulary
from qarm_features.ranking.data.parquet_files import list_row_groups, read_shard
from qarm_features.ranking.data.ranking_batch import RankingBatch


class ItemCounts(NamedTuple):
    """Counts by item index in [0, num_items]; items beyond num_items count as index 0.

    Attributes:
        positives: (num_items + 1,) int64 number of rows with label 1.
        impressions: (num_items + 1,) int64 number of rows.
    """

    positives: np.ndarray
    impressions: np.ndarray


def count_items_of_files(files: Sequence[str], vocabulary: ItemVocabulary) -> ItemCounts:
    """Counts the target items of training rows in a stream of two columns.

    Args:
        files: Paths or pyarrow-fs URIs of the training split.
        vocabulary: Vocabulary of the model.
    """
    counts = _Counts(vocabulary.num_known)
    columns = ("item_id", "label")
    for rows in read_shard(list_row_groups(files, columns), columns, shard=0, num_shards=1):
        labels = rows.column("label").cast(pa.float64()).to_numpy(zero_copy_only=False)
        counts.add(vocabulary.index(rows.column("item_id")), labels)
    return counts.counts


def count_items(batches: Iterable[RankingBatch], num_items: int) -> ItemCounts:
    """Counts the target items of batches, in one pass.

    Args:
        batches: Batches of training rows.
        num_items: Size of the item vocabulary of the model, at least 0.
    """
    counts = _Counts(num_items)
    for batch in batches:
        assert batch.label is not None, "counts need labels"
        counts.add(batch.item_index.cpu().numpy(), batch.label.cpu().numpy())
    return counts.counts


class _Counts:
    """Adds up counts, one batch after the other."""

    def __init__(self, num_items: int) -> None:
        self.counts = ItemCounts(*(np.zeros(num_items + 1, dtype=np.int64) for _ in range(2)))

    def add(self, index: np.ndarray, labels: np.ndarray) -> None:
        size = len(self.counts.impressions)
        index = np.where(index < size, index, 0)
        self.counts.positives[:] += np.bincount(index[labels == 1], minlength=size)
        self.counts.impressions[:] += np.bincount(index, minlength=size)
