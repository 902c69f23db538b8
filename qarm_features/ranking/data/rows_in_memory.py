"""Rows that are in memory as one large batch, in batches: for data that fits, without Parquet files."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from qarm_features.ranking.data.ranking_batch import RankingBatch, map_tensors


class RowsInMemory:
    """Cuts rows into batches, in their order or, with shuffle, in an order drawn by (seed, epoch).

    Args:
        rows: all N rows as one batch.
        batch_size: B, at least 1; the last batch may be smaller.
        shuffle: whether each epoch has an order of its own.
        seed: of the order.

    Raises:
        ValueError: if batch_size is below 1.
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
        """Chooses the order of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[RankingBatch]:
        for rows in self._order().split(self.batch_size):
            yield map_tensors(lambda tensor, rows=rows: tensor[rows], self.rows)

    def _order(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.num_rows)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(self.num_rows, generator=generator)
