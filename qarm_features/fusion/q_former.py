"""The Fusion-Q-Former: tokens of any number of modalities become Q query tokens and one item embedding.

In: ``Tokens`` (B, N, D) of each modality with masks. Out: ``Fused``, queries (B, Q, D) and pooled (B, D). Trainable
query tokens attend to all modality tokens, so that the output's length is fixed whatever an item has
(EM3, arXiv 2404.06078, section 3.2). No weights of a pretrained Q-Former are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention

if TYPE_CHECKING:
    from qarm_features.fusion.tokens import Tokens

_MLP_RATIO = 4


class Fused(NamedTuple):
    """What the Fusion-Q-Former makes of B items.

    Attributes:
        queries: (B, Q, D), layer-normalized; what a ranking model attends to (EM3).
        pooled: (B, D) float32, unit L2 norm; the item embedding.
    """

    queries: Tensor
    pooled: Tensor


class FusionQFormer(nn.Module):
    """Fuses the tokens of an item's modalities.

    ``pooled = normalize(skip + head(mean of queries))``. ``skip`` is the mean, over the modalities an item has, of a
    linear map of its unit-norm mean token. The map starts orthogonal and ``head`` starts at zero: an untrained module
    is a random projection of the frozen embeddings, so that training on few pairs starts from their geometry.

    Args:
        token_dims: D of the tokens of each modality, by name.
        num_queries: Q, at least 1.
        dim: D of the output, a multiple of num_heads.
        num_layers: layers of [self-attention among queries, cross-attention to the tokens, MLP], at least 1.
        num_heads: H, at least 1.
        dropout: of each layer's outputs, in [0, 1).

    Raises:
        ValueError: if token_dims is empty or a number is out of its range.

    Source: EM3, arXiv 2404.06078, section 3.2; the residual path is ours.
    """

    def __init__(
        self,
        token_dims: Mapping[str, int],
        *,
        num_queries: int = 8,
        dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.0,
    ):
        super().__init__()
        _check(token_dims, num_queries=num_queries, dim=dim, num_layers=num_layers, num_heads=num_heads)
        self.token_dims, self.dim, self.num_queries = dict(token_dims), dim, num_queries
        self.projections = nn.ModuleDict({name: nn.Linear(size, dim) for name, size in token_dims.items()})
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in token_dims})
        self.skips = nn.ModuleDict({name: _orthogonal(size, dim) for name, size in token_dims.items()})
        self.modality_embedding = nn.ParameterDict({name: nn.Parameter(torch.randn(dim) * 0.02) for name in token_dims})
        self.queries = nn.Parameter(torch.randn(num_queries, dim) * 0.02)
        self.layers = nn.ModuleList([_Layer(dim, num_heads, dropout) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuses B items; a masked token contributes nothing, whatever its value.

        Args:
            tokens: (B, N, D) and mask (B, N) by modality; a modality that no item of the batch has may be left out.

        Returns:
            Queries (B, Q, D) and pooled (B, D).

        Raises:
            ValueError: if a modality is unknown or has another D, or an item has no token at all.
        """
        self._check_tokens(tokens)
        values, masks, skips, present = [], [], [], []
        for name in self.token_dims:
            if name not in tokens:
                continue
            value, mask = tokens[name]
            value = value.masked_fill(~mask.unsqueeze(-1), 0.0)  # also where it is NaN, which times zero is NaN
            values.append(self.norms[name](self.projections[name](value)) + self.modality_embedding[name])
            masks.append(mask)
            mean = value.float().sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
            skips.append(self.skips[name](normalize(mean, dim=-1)))
            present.append(mask.any(1))
        number = torch.stack(present).sum(0)  # (B,) modalities that an item has
        if not bool((number > 0).all()):
            row = int((number == 0).nonzero()[0])
            raise ValueError(f"Item in row {row} has no token, must have at least one. Leave empty items out.")
        memory, mask = torch.cat(values, 1), torch.cat(masks, 1)
        queries = self.queries.expand(len(mask), -1, -1)
        for layer in self.layers:
            queries = layer(queries, memory, mask)
        queries = self.norm(queries)
        skip = torch.stack(skips).float().sum(0) / number.unsqueeze(-1)
        return Fused(queries, normalize(skip + self.head(queries.mean(1)).float(), dim=-1))

    def _check_tokens(self, tokens: Mapping[str, Tokens]) -> None:
        if not tokens:
            raise ValueError(f"tokens is empty, must hold one of {', '.join(self.token_dims)}. Leave empty items out.")
        for name, (values, _) in tokens.items():
            if name not in self.token_dims:
                raise ValueError(f"Modality is {name}, must be one of {', '.join(self.token_dims)}.")
            if values.shape[-1] != self.token_dims[name]:
                raise ValueError(
                    f"Tokens of {name} have D = {values.shape[-1]}, must be {self.token_dims[name]}. "
                    "Use the backbone that the encoder was made with."
                )


class _Layer(nn.Module):
    """One pre-norm layer: queries attend to each other, then to the tokens, then pass an MLP."""

    def __init__(self, dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.self_norm, self.cross_norm, self.mlp_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.self_attention = _Attention(dim, num_heads)
        self.cross_attention = _Attention(dim, num_heads)
        self.mlp = nn.Sequential(nn.Linear(dim, _MLP_RATIO * dim), nn.GELU(), nn.Linear(_MLP_RATIO * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Returns new queries (B, Q, D) from queries (B, Q, D), tokens (B, N, D) and their mask (B, N)."""
        normed = self.self_norm(queries)
        queries = queries + self.dropout(self.self_attention(normed, normed))
        queries = queries + self.dropout(self.cross_attention(self.cross_norm(queries), memory, mask))
        return queries + self.dropout(self.mlp(self.mlp_norm(queries)))


class _Attention(nn.Module):
    """Multi-head attention of queries to a memory."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns (B, Q, D) from queries (B, Q, D), memory (B, N, D) and mask (B, N), True where a token stands."""
        query = self._heads(self.query(queries))
        key, value = (self._heads(part) for part in self.key_value(memory).chunk(2, dim=-1))
        attn_mask = None if mask is None else mask[:, None, None, :]
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _heads(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, N, D / H)


def _orthogonal(size: int, dim: int) -> nn.Linear:
    """Returns a linear map that keeps lengths on average: (B, size) to (B, dim)."""
    linear = nn.Linear(size, dim, bias=False)
    nn.init.orthogonal_(linear.weight, gain=max(1.0, (size / dim) ** 0.5))
    return linear


def _check(token_dims: Mapping[str, int], **numbers: int) -> None:
    if not token_dims:
        raise ValueError("token_dims is empty, must name at least one modality.")
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} is {number}, must be at least 1.")
    if numbers["dim"] % numbers["num_heads"]:
        raise ValueError(f"dim is {numbers['dim']}, must be a multiple of num_heads = {numbers['num_heads']}.")
