"""The encoding of Arrow rows as padded tensors, by offsets and without a Python loop over rows.

In: Arrow rows of ``training_rows``. Out: a ``RankingBatch``. A missing code is -1. A null list counts as an empty list. Of a
list that is too long, the latest values are kept.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from qarm_features.ranking.data.item_vocabulary import ItemVocabulary
from qarm_features.ranking.data.ranking_batch import COUNTERS, RankingBatch

MISSING_CODE = -1
UNKNOWN_ITEM = 0
_MICROSECONDS, _DAY = 1_000_000, 86_400


def encode_rows(
    rows: pa.RecordBatch,
    vocabulary: ItemVocabulary,
    *,
    num_levels: int,
    behavior_length: int,
    impression_length: int = 1,
    optional_fields: Collection[str] = (),
) -> RankingBatch:
    """Encodes Arrow rows as a batch.

    Args:
        rows: B rows with the columns ``ranking_batch.COLUMNS`` and those of the optional fields.
        vocabulary: Vocabulary of the items that have an index.
        num_levels: L, at least 0.
        behavior_length: T, at least 1.
        impression_length: T2, at least 1.
        optional_fields: Names of the optional fields to encode; the others are None.

    Raises:
        ValueError: If a label is neither 0 nor 1, item_codes do not have L codes, or another list does not have one value
            (L codes) per item of its sequence.
    """
    behaviors = _Sequence(rows, "behavior_item_ids", behavior_length)
    begin, end = _bounds(rows.column("item_codes"))
    _check_length("item_codes", end - begin, np.full(rows.num_rows, num_levels))
    item_codes = _latest(_values(rows.column("item_codes")), end, end - begin, num_levels, fill=MISSING_CODE)
    return RankingBatch(
        item_index=torch.from_numpy(vocabulary.index(rows.column("item_id"))),
        item_codes=torch.from_numpy(item_codes),
        behavior_index=behaviors.index(vocabulary),
        behavior_codes=behaviors.codes("behavior_codes", num_levels),
        behavior_mask=behaviors.mask(),
        label=torch.from_numpy(_labels(rows.column("label"))),
        user_group=torch.from_numpy(_user_groups(rows.column("user_id"))),
        behavior_age=behaviors.age("behavior_timestamps") if "behavior_age" in optional_fields else None,
        counters=_counters(rows) if "counters" in optional_fields else None,
        **_impressions(rows, vocabulary, num_levels, impression_length, optional_fields),
    )


def _impressions(
    rows: pa.RecordBatch, vocabulary: ItemVocabulary, num_levels: int, length: int, fields: Collection[str]
) -> dict[str, Tensor]:
    wanted = [field for field in fields if field.startswith("impression_")]
    if not wanted:
        return {}
    impressions = _Sequence(rows, "impression_item_ids", length)
    made = {
        "impression_index": lambda: impressions.index(vocabulary),
        "impression_codes": lambda: impressions.codes("impression_codes", num_levels),
        "impression_label": lambda: impressions.labels("impression_labels"),
        "impression_age": lambda: impressions.age("impression_timestamps"),
        "impression_mask": impressions.mask,
    }
    return {field: made[field]() for field in wanted}


class _Sequence:
    """Encodes the latest ``width`` items of each row's list, and lists that run parallel to it."""

    def __init__(self, rows: pa.RecordBatch, items: str, width: int) -> None:
        self.rows, self.items, self.width = rows, items, width
        begin, self.end = _bounds(rows.column(items))
        self.length = self.end - begin  # (B,)
        self.num_kept = np.minimum(self.length, width)  # (B,)

    def mask(self) -> Tensor:
        """Returns (B, width) bool, True where there is an item."""
        return torch.from_numpy(np.arange(self.width) < self.num_kept[:, None])

    def index(self, vocabulary: ItemVocabulary) -> Tensor:
        """Returns (B, width) int64."""
        index = vocabulary.index(_flat(self.rows.column(self.items)))
        return torch.from_numpy(_latest(index, self.end, self.num_kept, self.width, fill=UNKNOWN_ITEM))

    def codes(self, column: str, num_levels: int) -> Tensor:
        """Returns (B, width, L) int64; a row may have items and no codes."""
        lists = self.rows.column(column)
        begin, end = _bounds(lists)
        _check_length(column, end - begin, self.length * num_levels)
        kept = np.minimum(end - begin, self.num_kept * num_levels)
        codes = _latest(_values(lists), end, kept, self.width * num_levels, fill=MISSING_CODE)
        return torch.from_numpy(codes).unflatten(1, (self.width, num_levels))

    def labels(self, column: str) -> Tensor:
        """Returns (B, width) int64, 0 or 1, 0 = padding."""
        labels = self._beside(column)
        _check_labels(column, labels)
        return torch.from_numpy(labels)

    def age(self, column: str) -> Tensor:
        """Returns (B, width) float32, days from the item's time to the row's, 0 = padding."""
        shown = self.rows.column("event_timestamp").cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
        shown = shown.to_numpy(zero_copy_only=False) / _MICROSECONDS
        age = (shown[:, None] - self._beside(column)) / _DAY
        return torch.from_numpy(np.where(self.mask(), age, 0).astype(np.float32))

    def _beside(self, column: str) -> np.ndarray:
        lists = self.rows.column(column)
        begin, end = _bounds(lists)
        _check_length(column, end - begin, self.length, may_be_absent=False)
        return _latest(_values(lists), end, self.num_kept, self.width, fill=0)


def _flat(lists: pa.ListArray) -> pa.Array:
    """Returns the values of these lists, without the rest of the array that they may be a slice of."""
    begin, end = lists.offsets[0].as_py(), lists.offsets[-1].as_py()
    return lists.values.slice(begin, end - begin)


def _bounds(lists: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Returns begin and end of each list within ``_flat(lists)``, (B,) int64 each; a null list is empty."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    offsets -= offsets[0]
    return np.where(lists.is_valid().to_numpy(zero_copy_only=False), offsets[:-1], offsets[1:]), offsets[1:]


def _values(lists: pa.ListArray) -> np.ndarray:
    return _flat(lists).fill_null(MISSING_CODE).to_numpy(zero_copy_only=False)


def _latest(values: np.ndarray, end: np.ndarray, kept: np.ndarray, width: int, *, fill: int) -> np.ndarray:
    """Returns (B, width) int64: the ``kept`` values before ``end`` of each row, then fill."""
    column = np.arange(width)
    inside = column < kept[:, None]
    padded = np.full((len(end), width), fill, dtype=np.int64)
    padded[inside] = values[((end - kept)[:, None] + column)[inside]]
    return padded


def _check_length(column: str, found: np.ndarray, expected: np.ndarray, *, may_be_absent: bool = True) -> None:
    wrong = np.flatnonzero((found != expected) & ((found != 0) | (not may_be_absent)))
    if len(wrong):
        found, expected = found[wrong[0]], expected[wrong[0]]
        if may_be_absent:
            raise ValueError(
                f"{column} holds {found} codes, must hold {expected} or none. "
                "Set num_levels to the number of levels of the codebooks."
            )
        raise ValueError(f"{column} holds {found} values, must hold {expected}. Run: qarm build-training-set")


def _check_labels(column: str, labels: np.ndarray) -> None:
    wrong = labels[(labels != 0) & (labels != 1)]
    if len(wrong):
        raise ValueError(
            f"{column} is {'null' if np.isnan(wrong[0]) else wrong[0]}, must be 0 or 1. Run: qarm build-training-set"
        )


def _labels(column: pa.Array) -> np.ndarray:
    """Returns (B,) float32."""
    labels = column.cast(pa.float32()).to_numpy(zero_copy_only=False, writable=True)  # null becomes NaN
    _check_labels("label", labels)
    return labels


def _counters(rows: pa.RecordBatch) -> Tensor:
    """Returns (B, 4) float32."""
    columns = [rows.column(name).fill_null(0).to_numpy(zero_copy_only=False) for name in COUNTERS]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


def _user_groups(column: pa.Array) -> np.ndarray:
    """Returns (B,) int64; a string ID is hashed, equally in every process; null counts as one user."""
    if pa.types.is_integer(column.type):
        return column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    users = pc.dictionary_encode(column.fill_null(""))
    hashed = pd.util.hash_array(users.dictionary.to_numpy(zero_copy_only=False), categorize=False)
    return hashed.view(np.int64)[users.indices.to_numpy()]
