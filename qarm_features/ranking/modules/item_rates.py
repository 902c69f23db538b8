"""The target's positive rate and count among the training rows, the row itself left out: what an item-ID embedding
would have to learn by gradient, counted.

In: item indexes (B,), and while training the labels (B,). Out: features (B, 2) float32. A rate that held its own row
would give the label away; least of all items with few rows could then be trusted with it.

Source: target encoding with leave-one-out, Micci-Barreca 2001 (doi 10.1145/507533.507538).
"""

import torch
from torch import Tensor


def item_rate_features(
    item_index: Tensor,
    positives: Tensor,
    impressions: Tensor,
    positive_rate: Tensor,
    *,
    own_label: Tensor | None = None,
    smoothing: float = 5.0,
) -> Tensor:
    """Returns by how much the log-odds of the target's rate exceed the mean's, and log1p of its count by 3.

    Args:
        item_index: (B,) int64, at least 0; an index without a row in the counts counts as never shown.
        positives: (num_items + 1,) int64 of the training rows, by item index.
        impressions: (num_items + 1,) int64 of the training rows, by item index.
        positive_rate: () float32 in (0, 1), the mean rate.
        own_label: (B,) float32 where these rows are among the counted ones: they are left out; None where they are not.
        smoothing: impressions at the mean rate added to each rate, above 0.

    Returns:
        (B, 2) float32.
    """
    known = (item_index > 0) & (item_index < len(impressions))
    row = item_index.masked_fill(~known, 0)
    liked, shown = positives[row].float() * known, impressions[row].float() * known
    if own_label is not None:
        liked = (liked - own_label * known).clamp(min=0)
        shown = (shown - known.float()).clamp(min=0)
    rate = (liked + smoothing * positive_rate) / (shown + smoothing)
    excess = rate.clamp(1e-4, 1 - 1e-4).logit() - positive_rate.logit()
    return torch.stack([excess, shown.log1p() / 3], dim=1)
