"""Batches of rows that fit in memory, without Parquet files.

In: all rows as one large batch. Out: batches of them.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from qarm_features.ranking.data.ranking_batch import RankingBatch, map_tensors


class RowsInMemory:
    """Cuts rows into batches, in their order or, with shuffle, in an order drawn by (seed, epoch).

    Args:
        rows: All N rows as one batch.
        batch_size: B, at least 1; the last batch may be smaller.
        shuffle: True if each epoch has an order of its own.
        seed: Seed of the order.

    Raises:
        ValueError: If batch_size is below 1.

    Example:
        >>> index, none = torch.arange(5), torch.zeros(5, 0, dtype=torch.int64)
        >>> rows = RankingBatch(index, none, none, none.unsqueeze(2), none.bool(), index.float(), index)
        >>> [len(batch.label) for batch in RowsInMemory(rows, batch_size=2)]
        [2, 2, 1]
    """

    def __init__(self, rows: RankingBatch, *, batch_size: int, shuffle: bool = False, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, must be at least 1.")
        self.rows, self.batch_size, self.shuffle, self.seed, self.epoch = rows, batch_size, shuffle, seed, 0
        self.num_rows = len(rows.item_index)

    def __len__(self) -> int:
        """Returns the number of batches."""
        return math.ceil(self.num_rows / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass.

        Args:
            epoch: Number of the epoch, at least 0.
        """
        self.epoch = epoch

    def __iter__(self) -> Iterator[RankingBatch]:
        for rows in self._order().split(self.batch_size):
            yield map_tensors(lambda tensor, rows=rows: tensor[rows], self.rows)

    def _order(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.num_rows)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(self.num_rows, generator=generator)
