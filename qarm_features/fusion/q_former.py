"""Define the Fusion-Q-Former, which turns tokens of any number of modalities into query tokens and an item embedding.

In: ``Tokens`` (B, N, D) by modality. Out: ``Fused``, with queries (B, Q, D) and pooled (B, D). Trainable query tokens attend
to the tokens of all modalities, so the output has the same shape for every item (EM3, arXiv 2404.06078, section 3.2). The
module is trained from scratch; no pretrained Q-Former is needed.
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
    """Hold the output of the Fusion-Q-Former for B items.

    Attributes:
        queries: Layer-normalized query tokens (B, Q, D), to which a ranking model attends (EM3).
        pooled: Item embeddings (B, D) float32 of unit L2 norm.
    """

    queries: Tensor
    pooled: Tensor


class FusionQFormer(nn.Module):
    """Fuse the tokens of the modalities of an item.

    ``pooled = normalize(skip + head(mean of queries))``; with ``flatten_queries`` the head reads the queries side by side.
    ``skip`` is the mean, over the modalities of an item, of a linear
    map of the unit-norm mean token. The map is initialized as an orthogonal matrix and ``head`` as 0, so that an untrained
    module is a random projection of the frozen embeddings. Training on few pairs starts from their geometry.

    Args:
        token_dims: D of the tokens by modality.
        num_queries: Q, at least 1.
        dim: D of the output, a multiple of ``num_heads``.
        num_layers: Number of layers, at least 1. A layer has self-attention among queries, cross-attention to the tokens,
            and an MLP.
        num_heads: H, at least 1.
        dropout: Dropout probability of the outputs of each layer, in [0, 1).
        flatten_queries: True to give ``head`` the query tokens side by side, Q * D numbers, instead of their mean. It can
            then read each query on its own.

    Raises:
        ValueError: ``token_dims`` is empty or a number is out of its range.

    Example:
        >>> from qarm_features.fusion.tokens import Tokens
        >>> q_former = FusionQFormer({"text": 6, "image": 4}, num_queries=3, dim=8, num_heads=2)
        >>> mask = torch.ones(2, 5, dtype=torch.bool)
        >>> fused = q_former({"text": Tokens(torch.randn(2, 5, 6), mask)})  # no item of the batch has an image
        >>> tuple(fused.queries.shape), tuple(fused.pooled.shape)
        ((2, 3, 8), (2, 8))

    Source: EM3, arXiv 2404.06078, section 3.2. The residual path ``skip`` is an addition to it.
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
        flatten_queries: bool = False,
    ) -> None:
        super().__init__()
        _check(token_dims, num_queries=num_queries, dim=dim, num_layers=num_layers, num_heads=num_heads)
        self.token_dims, self.dim, self.num_queries = dict(token_dims), dim, num_queries
        self.num_heads = num_heads
        self.projections = nn.ModuleDict({name: nn.Linear(size, dim) for name, size in token_dims.items()})
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in token_dims})
        self.skips = nn.ModuleDict({name: _orthogonal(size, dim) for name, size in token_dims.items()})
        self.modality_embedding = nn.ParameterDict({name: nn.Parameter(torch.randn(dim) * 0.02) for name in token_dims})
        self.queries = nn.Parameter(torch.randn(num_queries, dim) * 0.02)
        self.layers = nn.ModuleList([_Layer(dim, num_heads, dropout) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(dim)
        self.flatten_queries = flatten_queries
        self.head = nn.Linear(num_queries * dim if flatten_queries else dim, dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse B items; the values of masked tokens are ignored.

        Args:
            tokens: ``Tokens`` (B, N, D) by modality; a modality that no item of the batch has may be left out.

        Returns:
            Queries (B, Q, D) and pooled (B, D).

        Raises:
            ValueError: A modality is unknown or has another D, or an item has no valid token.
        """
        self._check_tokens(tokens)
        values, masks, means = {}, {}, {}
        for name in self.token_dims:
            if name not in tokens:
                continue
            value, masks[name] = tokens[name]
            value = value.masked_fill(~masks[name].unsqueeze(-1), 0.0)  # a product with the mask would keep NaN
            values[name] = self.projections[name](value)
            means[name] = value.float().sum(1) / masks[name].sum(1, keepdim=True).clamp(min=1)
        return self.fuse(values, masks, means)

    def fuse(self, projected: Mapping[str, Tensor], masks: Mapping[str, Tensor], means: Mapping[str, Tensor]) -> Fused:
        """Fuse B items whose tokens are projected already. ``forward`` ends here; training on frozen tokens begins here.

        Args:
            projected: Tokens (B, N, D) after ``projections`` by modality; they are ignored where masked, but must be finite.
            masks: Masks (B, N) by modality.
            means: Mean tokens (B, D of the modality) float32 before the projection; zeros for an item without the modality.

        Returns:
            Queries (B, Q, D) and pooled (B, D).

        Raises:
            ValueError: An item has no valid token.
        """
        names = list(projected)
        number = torch.stack([masks[name].any(1) for name in names]).sum(0)  # (B,) number of modalities of each item
        if not bool((number > 0).all()):
            row = int((number == 0).nonzero()[0])
            raise ValueError(f"Item in row {row} has no token, must have at least one. Leave empty items out.")
        memory = torch.cat([self.norms[name](projected[name]) + self.modality_embedding[name] for name in names], 1)
        mask = torch.cat([masks[name] for name in names], 1)
        skips = [self.skips[name](normalize(means[name], dim=-1)) for name in names]
        queries = self.queries.unsqueeze(0)
        for layer in self.layers:
            queries = layer(queries, memory, mask)
        queries = self.norm(queries)
        skip = torch.stack(skips).float().sum(0) / number.unsqueeze(-1)
        side_by_side = queries.flatten(1) if self.flatten_queries else queries.mean(1)
        return Fused(queries, normalize(skip + self.head(side_by_side).float(), dim=-1))

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
    """Apply one pre-norm layer: self-attention of the queries, cross-attention to the tokens, and an MLP."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.mlp_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.self_attention = _Attention(dim, num_heads)
        self.cross_attention = _Attention(dim, num_heads)
        self.mlp = nn.Sequential(nn.Linear(dim, _MLP_RATIO * dim), nn.GELU(), nn.Linear(_MLP_RATIO * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Return new queries (B, Q, D) from queries (B or 1, Q, D), tokens (B, N, D) and their mask (B, N)."""
        if self.dropout.p and self.training:
            queries = queries.expand(len(memory), -1, -1)  # each item drops other numbers
        # One row of queries stands for all items until they have seen their tokens.
        normed = self.self_norm(queries)
        queries = queries + self.dropout(self.self_attention(normed, normed))
        queries = queries + self.dropout(self.cross_attention(self.cross_norm(queries), memory, mask))
        return queries + self.dropout(self.mlp(self.mlp_norm(queries)))


class _Attention(nn.Module):
    """Apply multi-head attention of queries to a memory."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, Q, D) from queries (B or 1, Q, D), memory (B, N, D) and mask (B, N), True for a valid token."""
        query = self._heads(self.query(queries)).expand(len(memory), -1, -1, -1)
        key, value = (self._heads(part) for part in self.key_value(memory).chunk(2, dim=-1))
        attn_mask = None if mask is None else mask[:, None, None, :]
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _heads(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, N, D / H)


def _orthogonal(size: int, dim: int) -> nn.Linear:
    """Return a linear map from (B, size) to (B, dim) that preserves lengths on average."""
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
