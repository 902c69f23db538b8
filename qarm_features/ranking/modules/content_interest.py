"""The content interest of a user: target attention over the behavior sequence in content space.

In: target content (B, D), behavior content (B, T, D), mask (B, T). Out: (B, D_out).

Source: EM3, arXiv 2404.06078, content-interest sequence; LoRA, arXiv 2106.09685.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.ranking.modules.masked_softmax import masked_softmax
from qarm_features.ranking.modules.ranking_input import Reading, Rows


class LoRAProjection(nn.Module):
    """Maps linearly, without a bias, by a frozen base weight plus alpha / rank * B A.

    With a rank, only A (rank, in_dim) and B (out_dim, rank) are trained; the base stays as it was drawn and is saved with the
    model. LoRA was made for a base that was trained before. Here nothing was, so that the base decides what the map can do: a
    "random" one is a random projection, and "identity" passes the content on, as far as out_dim has room.

    Args:
        in_dim: Width of the input, at least 1.
        out_dim: Width of the output, at least 1.
        rank: Rank r of the factors, at least 1; None trains the base weight itself instead.
        alpha: LoRA's alpha; the product of the factors is scaled by alpha / rank.
        base: First base weight. "random" draws it by Xavier's rule. "identity" takes the identity if in_dim is out_dim, and
            otherwise a matrix with ones where row and column are equal up to the narrower width: the output is then the first
            numbers of the input, or the input and zeros.

    Raises:
        ValueError: If rank is below 1.

    Source: LoRA, arXiv 2106.09685, section 4.1.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        rank: int | None,
        alpha: float,
        base: Literal["random", "identity"] = "random",
    ) -> None:
        super().__init__()
        if rank is not None and rank < 1:
            raise ValueError(f"rank is {rank}, must be at least 1. None trains the full projections.")
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim), requires_grad=rank is None)
        if base == "identity":
            nn.init.eye_(self.weight)
        else:
            nn.init.xavier_uniform_(self.weight)
        self.rank = rank
        if rank is not None:
            self.scale = alpha / rank
            self.lora_a = nn.Parameter(torch.empty(rank, in_dim))
            self.lora_b = nn.Parameter(torch.zeros(out_dim, rank))  # zero: training starts at the base weight
            nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def merged_weight(self) -> Tensor:
        """Returns base weight and factors as one weight, (out_dim, in_dim) float32."""
        return self.weight if self.rank is None else self.weight + self.scale * (self.lora_b @ self.lora_a)


class ContentInterest(nn.Module):
    """Multi-head attention of one target over T behaviors with LoRA query, key and value projections.

    With one target, the key projection is folded into the query and the value projection is applied after pooling, so that
    no projected behaviors (B, T, D_out) are stored. Beside its input this takes O(B T H D) time and O(B H (T + D)) memory.
    Without the folding it would take O(B T D D_out) time and O(B T (D_out + H)) memory.

    Args:
        dim: D of the content embeddings, at least 1.
        output_dim: D_out, at least 1, a multiple of num_heads.
        num_heads: H, at least 1.
        rank: Rank r of the LoRA factors, at least 1; None trains full projections.
        alpha: LoRA's alpha; the product of the factors is scaled by alpha / rank.
        base: First base weights of the three projections, see ``LoRAProjection``. With "identity" each head starts by
            comparing its own numbers of the content, as they are.

    Raises:
        ValueError: If a size is below 1 or output_dim is not a multiple of num_heads.

    Example:
        >>> interest = ContentInterest(8, 4, num_heads=2)
        >>> interest(torch.randn(2, 8), torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 4])

    Source: EM3, arXiv 2404.06078, content-interest sequence.
    """

    def __init__(
        self,
        dim: int,
        output_dim: int,
        *,
        num_heads: int = 4,
        rank: int | None = 8,
        alpha: float = 16.0,
        base: Literal["random", "identity"] = "random",
    ) -> None:
        super().__init__()
        for name, size in {"dim": dim, "output_dim": output_dim, "num_heads": num_heads}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, must be at least 1.")
        if output_dim % num_heads:
            raise ValueError(f"output_dim is {output_dim}, must be a multiple of num_heads = {num_heads}.")
        self.num_heads, self.output_dim = num_heads, output_dim
        self.query = LoRAProjection(dim, output_dim, rank=rank, alpha=alpha, base=base)
        self.key = LoRAProjection(dim, output_dim, rank=rank, alpha=alpha, base=base)
        self.value = LoRAProjection(dim, output_dim, rank=rank, alpha=alpha, base=base)

    def forward(self, target: Tensor, behavior: Tensor, mask: Tensor) -> Tensor:
        """Attends to the behaviors.

        Args:
            target: (B, D) float32.
            behavior: (B, T, D) float32, finite also where masked.
            mask: (B, T) bool, True where there is a behavior.

        Returns:
            (B, D_out) float32; exactly 0 for a user without behaviors. Padding of T does not change it.
        """
        heads = (self.num_heads, -1)
        key = self.key.merged_weight().unflatten(0, heads)  # (H, D_out / H, D)
        value = self.value.merged_weight().unflatten(0, heads)
        query = functional.linear(target, self.query.merged_weight()).unflatten(1, heads)  # (B, H, D_out / H)
        folded = torch.einsum("bhe,hed->bhd", query, key) / math.sqrt(query.shape[2])
        score = torch.einsum("bhd,btd->bht", folded, behavior)
        weight = masked_softmax(score, mask.unsqueeze(1), dim=2)
        pooled = torch.einsum("bht,btd->bhd", weight, behavior)
        return torch.einsum("bhd,hed->bhe", pooled, value).flatten(1)

    def of_items(self, content: Tensor, target: Tensor, behavior: Tensor, mask: Tensor) -> Tensor:
        """Attends to behaviors that are rows of U distinct items, whose keys and values are computed once per item.

        Args:
            content: (U, D) float32 of the distinct items, finite.
            target: (B,) int64 rows of ``content``.
            behavior: (B or 1, T) int64 rows of ``content``.
            mask: (B or 1, T) bool, True where there is a behavior.

        Returns:
            (B, D_out) float32, what ``forward`` returns for the same content.
        """
        heads = (self.num_heads, -1)
        query = functional.linear(content[target], self.query.merged_weight())
        query = (query / math.sqrt(self.output_dim // self.num_heads)).unflatten(1, heads)  # (B, H, E)
        projections = torch.cat([self.key.merged_weight(), self.value.merged_weight()])
        both = functional.embedding(behavior, functional.linear(content, projections))  # (B or 1, T, 2 * D_out)
        key, value = (part.unflatten(2, heads) for part in both.chunk(2, dim=2))
        score = (query.unsqueeze(1) * key).sum(dim=3)  # (B, T, H)
        weight = masked_softmax(score, mask.unsqueeze(2), dim=1)
        return (weight.unsqueeze(3) * value).sum(dim=1).flatten(1)


class ContentInterestReading(Reading, ContentInterest):
    """Reads the user's content interest for the target of each row."""

    def read(self, rows: Rows) -> Tensor:
        """Attends to the content of the behaviors, (B, D_out) float32."""
        target, past = rows.looked_up[0], rows.looked_up[1]
        return self.of_items(target.unique_content, target.rows, past.rows, rows.batch.behavior_mask)
