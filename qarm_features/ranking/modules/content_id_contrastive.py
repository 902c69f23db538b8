"""The loss that brings content embeddings and item-ID embeddings of the same items together.

In: content (B, D), item-ID embeddings (B, D). Out: a scalar.

Source: EM3, arXiv 2404.06078, Content-ID-Contrastive loss.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


def content_id_contrastive_loss(
    content: Tensor,
    item_id_embedding: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    item_index: Tensor | None = None,
    weight: Tensor | None = None,
    stop_gradient: Literal["content", "item_id"] | None = None,
    num_negatives: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Computes the softmax contrastive loss of each row against the batch, averaged over both directions.

    Args:
        content: (B, D) float32 content embedding of each row's item; the loss normalizes it.
        item_id_embedding: (B, D) float32 ID embedding of the same items; the loss normalizes it.
        temperature: Divisor of the cosines, above 0. A tensor may be trained and is not checked.
        item_index: (B,) int64 item indexes; rows of one item are not negatives of each other. None if all items differ.
        weight: (B,) float32 weight of each row in the mean, at least 0; None weights all rows alike.
        stop_gradient: Side that gets no gradient; None trains both.
        num_negatives: Number of rows, at least 1, that are drawn without replacement as the negatives of the whole batch.
            Memory is then O(B num_negatives) instead of O(B^2). None, or a number from B on, takes all rows.
        generator: Random generator for the negatives; None takes torch's own.

    Returns:
        () float32; exactly 0 where no row has a negative (B = 1) or all weights are 0.

    Raises:
        ValueError: If the shapes differ, temperature is not above 0, num_negatives is below 1 or stop_gradient is
            unknown.

    Example:
        >>> content = torch.eye(3)
        >>> content_id_contrastive_loss(content, content) < content_id_contrastive_loss(content, content.flip(0))
        tensor(True)

    Source: EM3, arXiv 2404.06078.
    """
    _check(content, item_id_embedding, temperature, stop_gradient, num_negatives)
    content, item_id = _unit_rows(content), _unit_rows(item_id_embedding)
    content = content.detach() if stop_gradient == "content" else content
    item_id = item_id.detach() if stop_gradient == "item_id" else item_id
    row = torch.arange(len(content), device=content.device)
    column = row
    if num_negatives is not None and num_negatives < len(row):
        device = row.device if generator is None else generator.device
        column = torch.randperm(len(row), generator=generator, device=device)[:num_negatives].to(row.device)
    index = row if item_index is None else item_index
    same_item = index.unsqueeze(1) == index[column]  # (B, negatives), the row itself included
    positive = (content * item_id).sum(dim=1, keepdim=True)  # (B, 1)
    loss = positive.new_zeros(len(row))
    for one, other in ((content, item_id), (item_id, content)):
        # The mask comes after the division: -inf / temperature would make the gradient of a trained temperature NaN.
        negative = (one @ other[column].T / temperature).masked_fill(same_item, -torch.inf)
        logits = torch.cat([positive / temperature, negative], dim=1)
        loss = loss + functional.cross_entropy(logits, torch.zeros_like(row), reduction="none") / 2
    weight = torch.ones_like(loss) if weight is None else weight.to(loss.dtype)
    return (weight * loss).sum() / weight.sum().clamp(min=torch.finfo(loss.dtype).tiny)


class ContentIDProjections(nn.Module):
    """Map content and item-ID embeddings into a space of their own, in which the loss compares them.

    Without them the loss acts on the item-ID embedding itself. This embedding is small at the start of training, so that
    its normalization makes the gradient of the loss large beside that of the ranking loss.

    Args:
        content_dim: Width C of the content embeddings, at least 1.
        item_dim: Width I of the item-ID embeddings, at least 1.
        dim: Width D of the space, at least 1.

    Example:
        >>> projections = ContentIDProjections(content_dim=6, item_dim=4, dim=8)
        >>> [side.shape[1] for side in projections(torch.ones(2, 6), torch.ones(2, 4))]
        [8, 8]
    """

    def __init__(self, *, content_dim: int, item_dim: int, dim: int) -> None:
        super().__init__()
        self.content = nn.Linear(content_dim, dim, bias=False)
        self.item_id = nn.Linear(item_dim, dim, bias=False)

    def forward(self, content: Tensor, item_id_embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Maps both sides.

        Args:
            content: (B, C) float32.
            item_id_embedding: (B, I) float32.

        Returns:
            Content (B, D) and item-ID embeddings (B, D), float32.
        """
        return self.content(content), self.item_id(item_id_embedding)


def popularity_weights(counts: Tensor, *, cold_below: int, popular_weight: float, cold_weight: float) -> Tensor:
    """Weights cold and popular items separately.

    Args:
        counts: (B,) number of interactions of each row's item, at least 0.
        cold_below: Number of interactions below which an item is cold, at least 0.
        popular_weight: Weight of the items that are not cold, at least 0.
        cold_weight: Weight of a cold item, at least 0.

    Returns:
        (B,) float32.

    Raises:
        ValueError: If an option is below 0.

    Example:
        >>> popularity_weights(torch.tensor([2, 9]), cold_below=5, popular_weight=1.0, cold_weight=3.0)
        tensor([3., 1.])
    """
    options = {"cold_below": cold_below, "popular_weight": popular_weight, "cold_weight": cold_weight}
    for name, option in options.items():
        if option < 0:
            raise ValueError(f"{name} is {option}, must be at least 0.")
    weights = torch.full(counts.shape, float(popular_weight), device=counts.device)
    return weights.masked_fill(counts < cold_below, float(cold_weight))


def _unit_rows(rows: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norm > 0, norm, 1.0)  # a zero row stays zero, with a finite gradient


def _check(
    content: Tensor, item_id: Tensor, temperature: float | Tensor, stop_gradient: str | None, num_negatives: int | None
) -> None:
    if content.ndim != 2 or content.shape != item_id.shape:
        raise ValueError(
            f"content is {tuple(content.shape)} and item_id_embedding {tuple(item_id.shape)}, must both be (B, D). "
            "Project one side to the width of the other."
        )
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature is {temperature}, must be above 0.")
    if stop_gradient not in (None, "content", "item_id"):
        raise ValueError(f'stop_gradient is "{stop_gradient}", must be "content", "item_id" or None.')
    if num_negatives is not None and num_negatives < 1:
        raise ValueError(f"num_negatives is {num_negatives}, must be at least 1. None takes the whole batch.")
