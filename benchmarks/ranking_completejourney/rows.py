"""The product's training rows become the rows of the impressions, and are checked for leaks.

In: files of ``training_rows``, the impressions and their past counts. Out: one batch per split.

``training_rows`` has one row per household, product and week. Impressions of one product in two stores in one week have the
same label and the same past, so that they share a row. Rows of purchases without an exposure are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from qarm_features.ranking import ItemVocabulary, RankingBatch, RowsInMemory, TrainingRows
from ranking_completejourney.past_counts import PastCounts
from ranking_completejourney.source import SPLITS, moment, split_of

LENGTH = 50  # T
_WEEK = 7.0  # days
_KEY = ["user_id", "item_id", "event_timestamp"]


class LeakError(ValueError):
    """A row's history holds something of its own week or later, or is not the household's past."""


class Histories(NamedTuple):
    """Histories of the rows of ``training_rows``.

    Attributes:
        keys: ``user_id``, ``item_id``, ``event_timestamp`` and ``label``, R rows.
        items: (R, T) int32 item indexes, the most recent last, then padding.
        length: (R,) int64 number of items.
        youngest: (R,) float32 age in days of the most recent one; infinity for an empty history.
    """

    keys: pd.DataFrame
    items: Tensor
    length: np.ndarray
    youngest: np.ndarray


def read_histories(
    files: Sequence[str], vocabulary: ItemVocabulary, *, codes: np.ndarray, length: int = LENGTH
) -> Histories:
    """Read training rows through the product's own reader.

    Args:
        files: Files of ``training_rows``.
        vocabulary: Vocabulary of all items.
        codes: (I + 1, L) codes by item index; those of the rows must be the same.
        length: T, the number of latest behaviors that are kept.

    Raises:
        ValueError: The rows hold other codes.
    """
    keys = pd.concat([pq.read_table(file, columns=[*_KEY, "label"]).to_pandas() for file in files], ignore_index=True)
    rows = TrainingRows(
        files, vocabulary, num_levels=codes.shape[1], batch_size=65_536, behavior_length=length,
        optional_fields=["behavior_age"],
    )  # fmt: skip
    items, lengths, youngest = [], [], []
    of_item = torch.from_numpy(codes)
    for batch in rows:
        expected = of_item[batch.behavior_index].masked_fill(~batch.behavior_mask.unsqueeze(2), -1)
        if not (
            torch.equal(batch.behavior_codes, expected) and torch.equal(batch.item_codes, of_item[batch.item_index])
        ):
            raise ValueError("training_rows holds other codes than item_semantic_ids of the same version.")
        items.append(batch.behavior_index.int())
        lengths.append(batch.behavior_mask.sum(dim=1).numpy())
        ages = batch.behavior_age.masked_fill(~batch.behavior_mask, float("inf"))
        youngest.append(ages.amin(dim=1).numpy())
    return Histories(keys, torch.cat(items), np.concatenate(lengths), np.concatenate(youngest))


def require_no_leak(histories: Histories, log: pd.DataFrame) -> None:
    """Refuse histories that hold anything of a row's own week, or that lack or add to the household's past purchases.

    Args:
        histories: Histories of training rows.
        log: The click log that the project read, with the label of each row.

    Raises:
        LeakError: A history is not what the log says.
    """
    if len(histories.youngest) and histories.youngest.min() < _WEEK:
        raise LeakError(
            f"A history holds a purchase that is {histories.youngest.min():.2f} days older than its row, must be at least "
            f"{_WEEK:.0f}: it comes from the week of the row."
        )
    purchases = log[log.label == 1]
    purchases = purchases.assign(event_timestamp=_micros(purchases.event_timestamp))
    of_past = purchases.groupby(["user_id", "event_timestamp"]).size().rename("bought").reset_index()
    of_past["so_far"] = of_past.groupby("user_id").bought.cumsum()
    keys = histories.keys
    wanted = pd.DataFrame({
        "user_id": keys.user_id, "event_timestamp": _micros(keys.event_timestamp), "place": np.arange(len(keys))
    })  # fmt: skip
    found = pd.merge_asof(
        wanted.sort_values("event_timestamp", kind="stable"),
        of_past.sort_values("event_timestamp"),
        on="event_timestamp", by="user_id", allow_exact_matches=False,
    )  # fmt: skip
    expected = np.zeros(len(wanted), np.int64)
    expected[found.place.to_numpy()] = found.so_far.fillna(0).to_numpy()
    wrong = np.flatnonzero(histories.length != np.minimum(expected, histories.items.shape[1]))
    if len(wrong):
        raise LeakError(
            f"{len(wrong):,} histories have another length than the household's purchases of earlier weeks, the first "
            f"{histories.length[wrong[0]]} instead of {expected[wrong[0]]}."
        )


def impression_rows(
    impressions: pd.DataFrame, counts: PastCounts, histories: Histories, vocabulary: ItemVocabulary
) -> dict[str, RankingBatch]:
    """Give each impression its history, and return the rows of each split, with int32 indexes and without codes.

    Args:
        impressions: Rows of ``Source.impressions``, in any order; they keep it within a split.
        counts: Past counts of these rows.
        histories: Histories of the training rows.
        vocabulary: Vocabulary of all items.

    Raises:
        ValueError: An impression has no training row, or one with another label.
    """
    place = _places(impressions, histories.keys)
    if (place < 0).any() or (histories.keys.label.to_numpy()[place] != impressions.label.to_numpy()).any():
        raise ValueError("An impression has no training row, or one with another label.")
    counters = np.zeros((len(impressions), 4), np.float32)
    counters[:, 0], counters[:, 1] = counts
    split, index = split_of(impressions.week), vocabulary.index(pa.array(impressions.product_id.to_numpy()))
    batches = {}
    for name in SPLITS:
        rows = np.flatnonzero(split == name)
        history = histories.items[torch.from_numpy(place[rows])]
        mask = torch.arange(history.shape[1]) < torch.from_numpy(histories.length[place[rows]]).unsqueeze(1)
        none = torch.zeros(len(rows), 0, dtype=torch.int64)
        batches[name] = RankingBatch(
            item_index=torch.from_numpy(index[rows]),
            item_codes=none,
            behavior_index=history,
            behavior_codes=none,
            behavior_mask=mask,
            label=torch.from_numpy(impressions.label.to_numpy(np.float32)[rows]),
            user_group=torch.from_numpy(impressions.household_id.to_numpy(np.int64)[rows]),
            counters=torch.from_numpy(counters[rows]),
        )
    return batches


class RowsWithCodes(RowsInMemory):
    """Cuts rows into batches and looks their codes up, so that one copy of the rows serves all codebooks.

    Args:
        rows: Rows with int32 indexes and without codes.
        codes: (I + 1, L) int64 codes by item index.
        with_behaviors: False to leave out the codes of behaviors, for a model that reads none.
        how: Arguments of ``RowsInMemory``.
    """

    def __init__(self, rows: RankingBatch, codes: Tensor, *, with_behaviors: bool, **how: Any) -> None:
        super().__init__(rows, **how)
        self.codes, self.with_behaviors = codes, with_behaviors

    def __iter__(self) -> Iterator[RankingBatch]:
        for batch in super().__iter__():
            behaviors = batch.behavior_index.long()
            codes = self.codes if self.with_behaviors else self.codes[:, :0]
            of_behaviors = codes[behaviors].masked_fill(~batch.behavior_mask.unsqueeze(2), -1)
            yield batch._replace(
                behavior_index=behaviors, behavior_codes=of_behaviors, item_codes=self.codes[batch.item_index]
            )


def _places(impressions: pd.DataFrame, keys: pd.DataFrame) -> np.ndarray:
    """Return the row of ``keys`` (N,) of each impression, -1 if there is none."""
    wanted = pd.DataFrame({
        "user_id": impressions.household_id.to_numpy(),
        "item_id": impressions.product_id.to_numpy(),
        "event_timestamp": _micros(moment(impressions.week)),
    })  # fmt: skip
    known = keys[["user_id", "item_id"]].assign(
        event_timestamp=_micros(keys.event_timestamp), place=np.arange(len(keys))
    )
    found = wanted.merge(known, on=_KEY, how="left", validate="many_to_one")
    return found.place.fillna(-1).to_numpy(np.int64)


def _micros(moments: pd.Series) -> np.ndarray:
    utc = moments if moments.dt.tz is not None else moments.dt.tz_localize("UTC")
    return utc.astype("datetime64[us, UTC]").astype("int64").to_numpy()
