"""The trained projection of frozen content tokens, chunk by chunk, so that the tokens of a batch never lie in memory at once.

In: a store of content tokens and rows (U,) of it. Out: projected tokens (U, N, D) by modality, their masks, and the mean
token of each item. Tokens are far wider than what they are projected to: 16 tokens of 384 numbers against 16 of 32. A chunk
stays in the caches of the CPU from the store to the product, and is read once more for the gradient of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.ranking.data.item_content_store import ContentTokens
from qarm_features.ranking.data.item_features import ContentStore

_CHUNK_NUMBERS = 2**20  # float32 numbers of a chunk on a CPU: 4 MB, about the share of a core in the last cache
_CHUNK_NUMBERS_OF_A_GPU = 2**25


class ProjectedTokens(NamedTuple):
    """Tokens of U items by modality, as ``FusionQFormer.fuse`` takes them.

    Attributes:
        values: Projected tokens (U, N, D) float32 by modality; without a meaning where masked.
        masks: (U, N) bool by modality, True for a token.
        means: Mean tokens (U, D of the modality) float32; zeros for an item without the modality.
    """

    values: dict[str, Tensor]
    masks: dict[str, Tensor]
    means: dict[str, Tensor]

    def of(self, items: Tensor) -> ProjectedTokens:
        """Returns the tokens of some of the items, by an index or a mask of U."""
        return ProjectedTokens(*({name: part[items] for name, part in parts.items()} for parts in self))


def project_frozen_tokens(
    store: ContentStore, rows: np.ndarray, projections: Mapping[str, nn.Linear]
) -> ProjectedTokens:
    """Projects the tokens of U items by one linear map per modality. Gradients reach the maps and not the tokens.

    Args:
        store: Store of the content tokens.
        rows: (U,) int64 rows of the store, U at least 1, best in ascending order.
        projections: Maps from the D of each modality of the store to one D.
    """
    names = tuple(projections)
    weights = [weight for name in names for weight in (projections[name].weight, projections[name].bias)]
    found = _Projection.apply(store, rows, names, *weights)
    return ProjectedTokens(*(dict(zip(names, found[part::3])) for part in range(3)))


class _Projection(torch.autograd.Function):
    """Keeps the rows for the backward pass instead of the tokens, which are read again."""

    @staticmethod
    def forward(ctx: Any, store: ContentStore, rows: np.ndarray, names: tuple[str, ...], *weights: Tensor) -> Any:
        ctx.store, ctx.rows, ctx.names, ctx.device = store, rows, names, weights[0].device
        parts: list[list[Tensor]] = [[] for _ in range(3 * len(names))]
        for _, tokens in _chunks(store, rows, weights[0].device):
            for number, name in enumerate(names):
                values, mask = tokens[name]
                projected = functional.linear(values, weights[2 * number], weights[2 * number + 1])
                mean = values.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
                for place, part in enumerate((projected, mask, mean)):
                    parts[3 * number + place].append(part)
        found = tuple(torch.cat(part) for part in parts)
        ctx.mark_non_differentiable(*found[1::3], *found[2::3])
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        of_projected = gradients[0::3]
        found: list[Tensor | None] = [None] * (2 * len(ctx.names))
        for part, tokens in _chunks(ctx.store, ctx.rows, ctx.device):
            for number, name in enumerate(ctx.names):
                gradient = of_projected[number][part].flatten(0, 1)
                of_weight = gradient.T @ tokens[name].values.flatten(0, 1)
                before = found[2 * number]
                found[2 * number] = of_weight if before is None else before.add_(of_weight)
        for number, gradient in enumerate(of_projected):
            found[2 * number + 1] = gradient.sum((0, 1))
        return None, None, None, *found


def _chunks(
    store: ContentStore, rows: np.ndarray, device: torch.device
) -> Iterator[tuple[slice, Mapping[str, ContentTokens]]]:
    """Yields the tokens of the items, zeros where masked, with the place of the chunk among the items."""
    start, items = 0, 1  # the first chunk of one item tells how large the others may be
    clean = getattr(store, "zeros_where_masked", False)  # a store of someone else may hold anything there
    while start < len(rows):
        part = slice(start, start + items)
        found = store.gather_modalities(rows[part])
        tokens = {name: _on_device(*pair, device, clean=clean) for name, pair in found.items()}
        yield part, tokens
        start += items
        if items == 1:
            most = _CHUNK_NUMBERS if device.type == "cpu" else _CHUNK_NUMBERS_OF_A_GPU
            items = max(2, most // max(1, sum(pair.values.numel() for pair in tokens.values())))


def _on_device(values: Tensor, mask: Tensor, device: torch.device, *, clean: bool) -> ContentTokens:
    if not clean and not bool(mask.all()):
        values = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    return ContentTokens(values.to(device, non_blocking=True), mask.to(device, non_blocking=True))
