"""What the past says without looking at content: labeled impressions attended by the target, and counters.

In: impressions with labels, counts of user and item, all strictly before the row. Out: inputs of the ranking model.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from qarm_features.ranking.modules.target_attention import TargetAttention

NUM_COUNTERS = 4  # user_positive, user_impression, item_positive, item_impression
_LABEL_STD = 0.3  # as large as an attended vector becomes, so that likes and dislikes differ from the start


class LabeledHistory(nn.Module):
    """Attends to a user's latest impressions, positive and negative, each with its label's embedding added.

    Args:
        dim: D of an item's representation, at least 1.
        hidden_dim: hidden width of the target attention, at least 1.
        use_ages: whether ``forward`` takes ages.
        attend: whether the attended history is returned; without, only the three numbers are.
    """

    def __init__(self, dim: int, *, hidden_dim: int, use_ages: bool, attend: bool = True) -> None:
        super().__init__()
        self.attention = self.of_age = None
        self.output_dim = 3
        if attend:
            self.labels = nn.Embedding(2, dim)
            nn.init.normal_(self.labels.weight, std=_LABEL_STD)
            self.of_age = nn.Linear(1, dim, bias=False) if use_ages else None
            self.attention = TargetAttention(dim, hidden_dim=hidden_dim)
            self.output_dim += dim

    def forward(
        self, target: Tensor, impression: Tensor | None, label: Tensor, mask: Tensor, *, age: Tensor | None = None
    ) -> Tensor:
        """Reads the history.

        Args:
            target: (B, D) float32.
            impression: (B or 1, T2, D) float32, the items of the history; only read with ``attend``.
            label: (B or 1, T2) int64, 0 or 1.
            mask: (B or 1, T2) bool, True where there is an impression.
            age: (B or 1, T2) float32 days, at least 0; given exactly with use_ages.

        Returns:
            (B, D + 3), or (B, 3) without attention: the attended history, its length and positives as log1p, and its
            positive rate, 0.5 without one.
        """
        count = mask.sum(dim=1).float()
        positive = (label * mask).sum(dim=1).float()
        rate = (positive + 1) / (count + 2)
        numbers = torch.stack([count.log1p(), positive.log1p(), rate], dim=1)
        numbers = numbers.expand(len(target), -1)
        if self.attention is None:
            return numbers
        seen = impression + self.labels(label)
        if self.of_age is not None:
            seen = seen + self.of_age(age.masked_fill(~mask, 0).log1p().unsqueeze(-1))
        return torch.cat([self.attention(target, seen, mask), numbers], dim=1)


class CounterFeatures(NamedTuple):
    """What counters say.

    Attributes:
        features: (B, 6) float32: log1p of the four counts by 3, and by how much the log-odds of the user's and the
            item's rate exceed the mean's.
        logit: (B,) float32, the linear part.
    """

    features: Tensor
    logit: Tensor


class Counters(nn.Module):
    """Turns strictly past counts of user and item into inputs and into a linear part of the logit.

    The linear part starts as naive Bayes would have it: log-odds of the mean rate, plus by how much the log-odds of the
    user's and of the item's rate exceed it. Rates are smoothed by pseudo-counts at the mean rate.

    Args:
        smoothing: impressions at the mean rate added to each rate, above 0.
    """

    num_features = 6

    def __init__(self, *, smoothing: float = 10.0) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.wide = nn.Linear(self.num_features, 1)
        with torch.no_grad():
            self.wide.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]))
            self.wide.bias.zero_()

    def forward(self, counters: Tensor, positive_rate: Tensor) -> CounterFeatures:
        """Reads counters.

        Args:
            counters: (B, 4) float32, at least 0: user_positive, user_impression, item_positive, item_impression.
            positive_rate: () float32 in (0, 1), the mean rate.

        Returns:
            features (B, 6) and logit (B,).
        """
        prior = positive_rate.logit()
        positives, impressions = counters[:, 0::2], counters[:, 1::2]  # (B, 2): of the user, of the item
        rate = (positives + self.smoothing * positive_rate) / (impressions + self.smoothing)
        excess = rate.clamp(1e-4, 1 - 1e-4).logit() - prior
        features = torch.cat([counters.log1p() / 3, excess], dim=1)
        return CounterFeatures(features, self.wide(features).squeeze(1) + prior)
