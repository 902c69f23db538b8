"""Impressions become batches of the type ``RankingBatch``, like those of the training rows, without files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qarm_features.ranking import RankingBatch

from .catalog import Catalog
from .impressions import Impressions

BEHAVIORS = 6  # T, latest positives of a user
HISTORY = 12  # T2, latest impressions of a user; the labels depend on more of them


class ItemIndexes(NamedTuple):
    """The item vocabulary. Items of the training rows come first.

    Attributes:
        of_item: (I,) int64 index of each item, in [1, I].
        item: (I + 1,) int64 item of each index, 0 for index 0.
        num_known: Number of items in the training rows, which have an ID embedding.
    """

    of_item: np.ndarray
    item: np.ndarray
    num_known: int


def index_items(catalog: Catalog, seen: Impressions) -> ItemIndexes:
    """Number the items, those in the training rows first."""
    known = np.bincount(seen.item.ravel()[seen.rows("train")], minlength=len(catalog.cluster)) > 0
    order = np.argsort(~known, kind="stable")
    of_item = np.empty(len(order), np.int64)
    of_item[order] = 1 + np.arange(len(order))
    return ItemIndexes(of_item, np.concatenate([[0], order]), int(known.sum()))


def latest_positives(item: np.ndarray, label: np.ndarray, length: int) -> np.ndarray:
    """Return the T latest positives (U, S, T) int32 strictly before each impression, the latest last, -1 for none."""
    num_users, per_user = item.shape
    found, latest = np.empty((num_users, per_user, length), np.int32), np.full((num_users, length), -1, np.int32)
    for step in range(per_user):
        found[:, step] = latest
        liked = label[:, step] == 1
        latest[liked] = np.concatenate([latest[liked, 1:], item[liked, step : step + 1]], axis=1)
    return found


class WorldBatches:
    """Cuts rows of the world into batches.

    Args:
        seen: The impressions.
        indexes: Indexes of the items.
        rows: (N,) flat numbers of the impressions.
        codes: (I, L) int64 codes of the items.
        behaviors: (U, S, T) positives from ``latest_positives``. None gives users no behavior, with T = 1.
        with_history: Add the latest labeled impressions to the batches if True.
        batch_size: Batch size B. The last batch may be smaller.
        shuffle: Use a random order in each epoch if True.
        seed: Seed of the order, together with the epoch.
    """

    def __init__(
        self,
        seen: Impressions,
        indexes: ItemIndexes,
        rows: np.ndarray,
        *,
        codes: np.ndarray,
        behaviors: np.ndarray | None = None,
        with_history: bool = False,
        batch_size: int = 4096,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        self.rows, self.batch_size, self.shuffle, self.seed, self.epoch = rows, batch_size, shuffle, seed, 0
        self.with_history, self.per_user = with_history, seen.item.shape[1]
        self.index = torch.from_numpy(indexes.of_item[seen.item])  # (U, S)
        self.label = torch.from_numpy(seen.label)
        missing = np.full((1, codes.shape[1]), -1)
        self.codes = torch.from_numpy(np.concatenate([missing, codes[indexes.item[1:]]]))  # by item index
        self.behaviors = None
        if behaviors is not None:
            of_item = np.append(indexes.of_item, 0).astype(np.int32)  # index -1 selects the last entry
            self.behaviors = torch.from_numpy(of_item[behaviors]).flatten(0, 1)  # (U * S, T)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self.rows) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which selects the order of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[RankingBatch]:
        rows = self.rows
        if self.shuffle:
            rows = np.random.default_rng([self.seed, 4, self.epoch]).permutation(rows)
        for part in torch.from_numpy(rows).split(self.batch_size):
            yield self._batch(part)

    def _batch(self, rows: Tensor) -> RankingBatch:
        user = rows // self.per_user
        item = self.index.flatten()[rows]
        behavior = torch.zeros(len(rows), 1, dtype=torch.int64)
        if self.behaviors is not None:
            behavior = self.behaviors[rows].long()  # padding comes first, only the order matters
        batch = RankingBatch(
            item_index=item,
            item_codes=self.codes[item],
            behavior_index=behavior,
            behavior_codes=self.codes[behavior],
            behavior_mask=behavior > 0,
            label=self.label.flatten()[rows].float(),
            user_group=user,
        )
        return self._with_impressions(batch, user, rows % self.per_user) if self.with_history else batch

    def _with_impressions(self, batch: RankingBatch, user: Tensor, step: Tensor) -> RankingBatch:
        past = step.unsqueeze(1) - HISTORY + torch.arange(HISTORY)  # (B, T2), negative before the first impression
        mask = past >= 0
        past = past.clamp(min=0) + user.unsqueeze(1) * self.per_user
        index = self.index.flatten()[past].masked_fill(~mask, 0)
        label = self.label.flatten()[past].long().masked_fill(~mask, 0)
        return batch._replace(
            impression_index=index, impression_codes=self.codes[index], impression_label=label, impression_mask=mask
        )
