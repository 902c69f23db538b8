"""The batch of a ranking model, and the columns of ``training_rows`` that each optional field is read from.

In: tensors. Out: a ``RankingBatch``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

COLUMNS = ("user_id", "item_id", "label", "item_codes", "behavior_item_ids", "behavior_codes")
COUNTERS = ("user_positive_count", "user_impression_count", "item_positive_count", "item_impression_count")
COLUMNS_OF_FIELD = {  # beside COLUMNS
    "behavior_age": ("event_timestamp", "behavior_timestamps"),
    "impression_index": ("impression_item_ids",),
    "impression_codes": ("impression_item_ids", "impression_codes"),
    "impression_label": ("impression_item_ids", "impression_labels"),
    "impression_age": ("event_timestamp", "impression_item_ids", "impression_timestamps"),
    "impression_mask": ("impression_item_ids",),
    "counters": COUNTERS,
}


class RankingBatch(NamedTuple):
    """Holds B rows, the argument of ``RankingModel``.

    Behaviors are the user's latest T positives, impressions the latest T2 items that were shown, with either label. All of
    them are strictly before the row's own time. An optional field that was not read is None.

    Attributes:
        item_index: (B,) int64, 0 = unknown item. Index of the target item in the item vocabulary.
        item_codes: (B, L) int64, -1 = missing. Codes of the target item.
        behavior_index: (B, T) int64, most recent last, then padding. Indexes of the behaviors.
        behavior_codes: (B, T, L) int64. Codes of the behaviors.
        behavior_mask: (B, T) bool, False = padding. Which behaviors there are.
        label: (B,) float32, 0 or 1; None where nothing is trained. Label of each row.
        user_group: (B,) int64, one value per user: the ID, or the hash of a string ID. Group of rows of one user.
        behavior_age: (B, T) float32, days before the row, 0 = padding. Age of each behavior.
        impression_index: (B, T2) int64, most recent last, then padding. Indexes of the impressions.
        impression_codes: (B, T2, L) int64. Codes of the impressions.
        impression_label: (B, T2) int64, 0 or 1, 0 = padding. Labels of the impressions.
        impression_age: (B, T2) float32, days before the row, 0 = padding. Age of each impression.
        impression_mask: (B, T2) bool, False = padding. Which impressions there are.
        counters: (B, 4) float32 of COUNTERS, strictly before the row; 0 = unknown. Positives and impressions of the user,
            then of the item.

    Example:
        >>> row = torch.zeros(1, 2, dtype=torch.int64)
        >>> batch = RankingBatch(
        ...     item_index=torch.tensor([3]), item_codes=torch.tensor([[0, 1]]), behavior_index=row,
        ...     behavior_codes=torch.zeros(1, 2, 2, dtype=torch.int64), behavior_mask=row > 0,
        ...     label=torch.tensor([1.0]), user_group=torch.tensor([7]),
        ... )
        >>> batch.counters is None
        True
    """

    item_index: Tensor
    item_codes: Tensor
    behavior_index: Tensor
    behavior_codes: Tensor
    behavior_mask: Tensor
    label: Tensor | None
    user_group: Tensor | None
    behavior_age: Tensor | None = None
    impression_index: Tensor | None = None
    impression_codes: Tensor | None = None
    impression_label: Tensor | None = None
    impression_age: Tensor | None = None
    impression_mask: Tensor | None = None
    counters: Tensor | None = None

    def to(self, device: torch.device | str) -> "RankingBatch":
        """Moves every tensor to a device without waiting for the copies.

        Args:
            device: Target device.
        """
        return map_tensors(lambda tensor: tensor.to(device, non_blocking=True), self)


def map_tensors(function: Callable[..., Tensor], *batches: RankingBatch) -> RankingBatch:
    """Applies a function to each field of batches that have the same fields; None stays None.

    Args:
        function: Function of one tensor per batch.
        batches: Batches with the same fields.
    """
    return RankingBatch._make(None if fields[0] is None else function(*fields) for fields in zip(*batches))
