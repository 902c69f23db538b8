"""Target attention: the behavior sequence as far as it matters for the target item.

In: target (B, D), behaviors (B, T, D), mask (B, T). Out: (B, D).

Source: DIN, arXiv 1706.06978, section 4.3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.ranking.modules.masked_softmax import masked_softmax
from qarm_features.ranking.modules.ranking_input import Reading, Rows


class TargetAttention(nn.Module):
    """Weights each behavior by an MLP of [target, behavior, target * behavior], with a softmax over the behaviors.

    An MLP as in DIN takes the place of a dot product, because the item-ID part and the semantic-ID part of an embedding
    need not be comparable by one angle. DIN's fourth input, the difference, is left out: the first layer is linear, so the
    difference adds nothing. Unlike in DIN, the weights add up to 1. The number of behaviors is an input of its own.

    Args:
        dim: D, at least 1.
        hidden_dim: Width of the MLP's one hidden layer, at least 1.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> attention = TargetAttention(8)
        >>> attention(torch.randn(2, 8), torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 8])

    Source: DIN, arXiv 1706.06978, section 4.3.
    """

    def __init__(self, dim: int, *, hidden_dim: int = 32) -> None:
        super().__init__()
        for name, size in {"dim": dim, "hidden_dim": hidden_dim}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, must be at least 1.")
        self.of_target = nn.Linear(dim, hidden_dim)
        self.of_behavior = nn.Linear(dim, hidden_dim, bias=False)
        self.of_product = nn.Linear(dim, hidden_dim, bias=False)
        self.score = nn.Linear(hidden_dim, 1, bias=False)  # a bias would cancel in the softmax

    def forward(self, target: Tensor, behavior: Tensor, mask: Tensor) -> Tensor:
        """Attends to the behaviors.

        Args:
            target: (B, D) float32.
            behavior: (B, T, D) float32, or (1, T, D) of one user for all targets.
            mask: (B, T) bool, True where there is a behavior, or (1, T).

        Returns:
            (B, D) float32; exactly 0 for a user without behaviors. Padding of T does not change it.
        """
        if len(behavior) == 1 < len(target):
            hidden = self._hidden_of_one_user(target, behavior[0])
        else:
            # The target is folded into the weights, so that no product (B, T, D) is stored for the gradient.
            folded = self.of_behavior.weight + target.unsqueeze(1) * self.of_product.weight  # (B, hidden_dim, D)
            hidden = torch.bmm(behavior, folded.transpose(1, 2))
        hidden = hidden + self.of_target(target).unsqueeze(1)  # (B, T, hidden_dim)
        score = self.score(hidden.relu()).squeeze(-1)  # (B, T)
        return torch.einsum("bt,btd->bd", masked_softmax(score, mask, dim=1), behavior)

    def _hidden_of_one_user(self, target: Tensor, behavior: Tensor) -> Tensor:
        """Folds the behaviors (T, D) into the weights, so that no product (B, T, D) is stored."""
        folded = (behavior.unsqueeze(1) * self.of_product.weight).flatten(0, 1)  # (T * hidden_dim, D)
        hidden = functional.linear(target, folded, self.of_behavior(behavior).flatten())
        return hidden.unflatten(1, (len(behavior), self.of_product.out_features))


class AttendedBehaviors(Reading, TargetAttention):
    """Reads the behaviors as the target attends to them, and their mean.

    Args:
        dim: D of an item's representation, at least 1.
        hidden_dim: Width of the attention's one hidden layer, at least 1.
    """

    def __init__(self, dim: int, *, hidden_dim: int) -> None:
        super().__init__(dim, hidden_dim=hidden_dim)
        self.output_dim = 2 * dim

    def read(self, rows: Rows) -> Tensor:
        """Returns the attended behaviors and their mean, (B, 2*D) float32."""
        mask = rows.batch.behavior_mask
        weight = mask.to(rows.target.dtype)  # (U, T), where U is B or 1
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1)
        mean = torch.einsum("bt,btd->bd", weight, rows.behavior)
        attended = self(rows.target, rows.behavior, mask)
        return torch.cat([attended, mean.expand(len(attended), -1)], dim=1)
