"""Readings of the past that do not look at content: labeled impressions, and counts of user and item.

In: impressions with labels, counts of user and item, all strictly before the row. Out: inputs of the ranking model.
"""

import torch
from torch import Tensor, nn

from qarm_features.ranking.modules.ranking_input import Reading, Rows
from qarm_features.ranking.modules.target_attention import TargetAttention

NUM_COUNTERS = 4  # user_positive, user_impression, item_positive, item_impression
_LABEL_STD = 0.3  # as large as an attended vector becomes, so that likes and dislikes differ from the start
_IMPRESSIONS = frozenset({"impression_index", "impression_label", "impression_mask"})


class BehaviorCount(Reading):
    """Reads the number of behaviors as log1p."""

    output_dim = 1

    def read(self, rows: Rows) -> Tensor:
        """Counts behaviors, (B or 1, 1) float32."""
        return rows.batch.behavior_mask.to(rows.target.dtype).sum(dim=1, keepdim=True).log1p()


class LabeledHistory(Reading):
    """Attends to a user's latest impressions, positive and negative, each with its label's embedding added.

    Args:
        dim: D of an item's representation, at least 1.
        hidden_dim: Hidden width of the target attention, at least 1.
        use_ages: True if ``forward`` takes ages.
        attend: True if the attended history is returned beside the three numbers.
    """

    def __init__(self, dim: int, *, hidden_dim: int, use_ages: bool, attend: bool = True) -> None:
        super().__init__()
        self.use_ages, self.needs, self.output_dim = use_ages, _IMPRESSIONS, 3
        if use_ages:
            self.needs |= {"impression_age"}
        self.attention: TargetAttention | None = None
        self.of_age: nn.Linear | None = None
        if attend:
            self.labels = nn.Embedding(2, dim)
            nn.init.normal_(self.labels.weight, std=_LABEL_STD)
            if use_ages:
                self.of_age = nn.Linear(1, dim, bias=False)
            self.attention = TargetAttention(dim, hidden_dim=hidden_dim)
            self.output_dim += dim

    def read(self, rows: Rows) -> Tensor:
        """Reads the impressions of a batch, (B, D + 3) or (B, 3) float32."""
        return self(
            rows.target,
            None if self.attention is None else rows.impression,
            rows.field("impression_label"),
            rows.field("impression_mask"),
            age=rows.field("impression_age") if self.use_ages else None,
        )

    def forward(
        self, target: Tensor, impression: Tensor | None, label: Tensor, mask: Tensor, *, age: Tensor | None = None
    ) -> Tensor:
        """Reads the history.

        Args:
            target: (B, D) float32.
            impression: (B or 1, T2, D) float32, the items of the history; it is read only with ``attend``.
            label: (B or 1, T2) int64, 0 or 1.
            mask: (B or 1, T2) bool, True where there is an impression.
            age: (B or 1, T2) float32 days, at least 0; given exactly with use_ages.

        Returns:
            (B, D + 3), or (B, 3) without attention: the attended history, its length and positives as log1p, and its
            positive rate, 0.5 for a user without impressions.
        """
        count = mask.sum(dim=1).float()
        positive = (label * mask).sum(dim=1).float()
        rate = (positive + 1) / (count + 2)
        numbers = torch.stack([count.log1p(), positive.log1p(), rate], dim=1)
        numbers = numbers.expand(len(target), -1)
        if self.attention is None:
            return numbers
        labeled = impression + self.labels(label)
        if self.of_age is not None and age is not None:
            labeled = labeled + self.of_age(age.masked_fill(~mask, 0).log1p().unsqueeze(-1))
        return torch.cat([self.attention(target, labeled, mask), numbers], dim=1)


class Counters(Reading):
    """Turns strictly past counts of user and item into inputs and into a linear part of the logit.

    The linear part starts as naive Bayes: the log-odds of the mean rate, plus by how much the log-odds of the user's and of
    the item's rate exceed it. Rates are smoothed by pseudo-counts at the mean rate.

    Args:
        smoothing: Impressions at the mean rate that are added to each rate, above 0.
    """

    output_dim = 6
    needs = frozenset({"counters"})

    def __init__(self, *, smoothing: float = 10.0) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.wide = nn.Linear(self.output_dim, 1)
        with torch.no_grad():
            self.wide.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]))
            self.wide.bias.zero_()

    def read(self, rows: Rows) -> Tensor:
        """Reads the counters of a batch, (B, 6) float32."""
        return self(rows.field("counters"), rows.counts.positive_rate)

    def logit(self, rows: Rows, inputs: Tensor) -> Tensor:
        """Returns the linear part of the logit, (B,) float32."""
        return self.wide(inputs).squeeze(1) + rows.counts.positive_rate.logit()

    def linear_weights(self) -> list[Tensor]:
        """Returns the weight of the linear part."""
        return [self.wide.weight]

    def forward(self, counters: Tensor, positive_rate: Tensor) -> Tensor:
        """Turns counters into inputs.

        Args:
            counters: (B, 4) float32, at least 0: user_positive, user_impression, item_positive, item_impression.
            positive_rate: () float32 in (0, 1), the mean rate.

        Returns:
            (B, 6) float32: log1p of the four counts divided by 3, and by how much the log-odds of the user's and of the
            item's rate exceed those of the mean rate.
        """
        positives, impressions = counters[:, 0::2], counters[:, 1::2]  # (B, 2): of the user, of the item
        rate = (positives + self.smoothing * positive_rate) / (impressions + self.smoothing)
        excess = rate.clamp(1e-4, 1 - 1e-4).logit() - positive_rate.logit()
        return torch.cat([counters.log1p() / 3, excess], dim=1)
