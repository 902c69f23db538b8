"""The target's positive rate and count among the training rows, without the row itself.

These are numbers that an item-ID embedding would have to learn by gradient. In: item indexes (B,), and labels (B,) while
training. Out: (B, 2) float32. A rate that counted its own row would give the label away, most of all for items with few rows.

Source: target encoding with leave-one-out, Micci-Barreca 2001 (doi 10.1145/507533.507538).
"""

import torch
from torch import Tensor

from qarm_features.ranking.modules.ranking_input import Reading, Rows

_SMOOTHING = 5.0


class ItemRates(Reading):
    """Reads the positive rate and the count of the target item among the training rows, or before the row.

    Args:
        before_row: False for all training rows but the row itself, which all rows of an item share: a row with label 1 has a
            lower rate than one with label 0, by 1 / count. True for the counters of the item strictly before the row, which
            a server has too, and in which no later row counts.
    """

    output_dim = 2

    def __init__(self, *, before_row: bool = False) -> None:
        super().__init__()
        self.before_row = before_row
        if before_row:
            self.needs = frozenset({"counters"})

    def read(self, rows: Rows) -> Tensor:
        """Reads the rates of the target items, (B, 2) float32."""
        if self.before_row:
            liked, shown = rows.field("counters")[:, 2:].unbind(dim=1)  # of the item
            return _features(liked, shown, rows.counts.positive_rate, smoothing=_SMOOTHING)
        own_label = rows.batch.label if self.training else None  # only training rows were counted
        return item_rate_features(rows.batch.item_index, *rows.counts, own_label=own_label)


def item_rate_features(
    item_index: Tensor,
    positives: Tensor,
    impressions: Tensor,
    positive_rate: Tensor,
    *,
    own_label: Tensor | None = None,
    smoothing: float = _SMOOTHING,
) -> Tensor:
    """Compares the rate of each target item with the mean rate.

    Args:
        item_index: (B,) int64, at least 0; an index beyond the counts counts as never shown.
        positives: (num_items + 1,) int64 counts of the training rows by item index.
        impressions: (num_items + 1,) int64 counts of the training rows by item index.
        positive_rate: () float32 in (0, 1), the mean rate.
        own_label: (B,) float32 labels of rows that were counted, so that each is left out of its own rate; None for
            rows that were not counted.
        smoothing: Impressions at the mean rate that are added to each rate, above 0.

    Returns:
        (B, 2) float32: by how much the log-odds of the item's rate exceed those of the mean rate, and log1p of the
        item's count divided by 3.
    """
    known = (item_index > 0) & (item_index < len(impressions))
    row = item_index.masked_fill(~known, 0)
    liked, shown = positives[row].float() * known, impressions[row].float() * known
    if own_label is not None:
        liked = (liked - own_label * known).clamp(min=0)
        shown = (shown - known.float()).clamp(min=0)
    return _features(liked, shown, positive_rate, smoothing=smoothing)


def _features(liked: Tensor, shown: Tensor, positive_rate: Tensor, *, smoothing: float) -> Tensor:
    """Returns (B, 2) float32 from counts (B,) float32."""
    rate = (liked + smoothing * positive_rate) / (shown + smoothing)
    excess = rate.clamp(1e-4, 1 - 1e-4).logit() - positive_rate.logit()
    return torch.stack([excess, shown.log1p() / 3], dim=1)
