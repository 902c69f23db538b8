"""Tensors of the distinct items of a batch, seen from the places of a batch where these items occur.

In: tensors that were computed once per distinct item of a batch. Out: these tensors for every occurrence, and cosines. What
readings and embeddings compute of an item alone is computed here once per distinct item too, before it is spread over places:
a batch of 512 rows with 50 behaviors has 26,000 places and perhaps 2,000 items.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

_MAX_UNIQUE_PER_BEHAVIOR = 64  # up to this many, every target is compared with every unique item
_MAX_MARKS_PER_PLACE = 64  # up to this many, places mark their items in an array, instead of sorting them


@dataclass
class LookedUp:
    """The tensors that item features computed once per unique item, for items at places of any shape.

    Args:
        parts: Tensors (U, W) float32 of the unique items by the name of the item feature that computed them; zeros where
            nothing is known of an item.
        rows: (...) int64 row of ``parts`` for each place.
        content_names: Names of ``parts`` that are content, in the order of the content embedding.
        made: What ``once`` has made; all places of one batch share it.
    """

    parts: Mapping[str, Tensor]
    rows: Tensor
    content_names: Sequence[str] = ()
    made: dict[str, Tensor] = field(default_factory=dict)

    def of(self, name: str) -> Tensor:
        """Returns what the item feature ``name`` computed, (..., W) float32."""
        return self.spread(self.parts[name])

    def spread(self, unique: Tensor) -> Tensor:
        """Returns a tensor (U, W) of the unique items at the places of the rows, (..., W)."""
        return functional.embedding(self.rows, unique)

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Returns what ``make`` returns, a tensor of the unique items; it is called once for all places of a batch.

        Args:
            name: Name of the tensor; equal names stand for equal tensors.
            make: Function without arguments.
        """
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    @cached_property
    def content(self) -> Tensor:
        """The content embeddings, (..., D) float32."""
        return self.spread(self.unique_content)

    @property
    def content_parts(self) -> list[Tensor]:
        """The parts of the content embeddings of the unique items, (U, W) float32 each."""
        return [self.parts[name] for name in self.content_names]

    @property
    def unique_content(self) -> Tensor:
        """The content embeddings of the unique items, (U, D) float32."""
        return self.once("content", lambda: side_by_side(self.content_parts, rows=self.rows))


def side_by_side(parts: Sequence[Tensor], *, rows: Tensor) -> Tensor:
    """Puts tensors (U, W) of unique items side by side, (U, D); a tensor (1, 0) where there are none.

    Args:
        parts: Tensors (U, W).
        rows: A tensor on the device of the result.
    """
    if len(parts) < 2:
        return parts[0] if parts else torch.empty(1, 0, device=rows.device)
    return torch.cat(list(parts), dim=1)


def distinct(index: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the distinct values, as ``torch.unique`` with ``return_inverse`` does.

    Args:
        index: (n,) int64, at least 0.

    Returns:
        (U,) int64 ascending, and (n,) int64 place of each value among them.

    Example:
        >>> distinct(torch.tensor([7, 2, 7]))
        (tensor([2, 7]), tensor([1, 0, 1]))
    """
    most = int(index.max()) + 1 if index.numel() and index.device.type == "cpu" else 0
    if not 0 < most <= _MAX_MARKS_PER_PLACE * index.numel():
        values, place = torch.unique(index, return_inverse=True)
        return values, place
    marks = torch.zeros(most, dtype=torch.int64).index_fill_(0, index, 1)
    values = marks.nonzero().squeeze(1)
    return values, (marks.cumsum(0) - 1)[index]


def content_cosines(target: LookedUp, past: LookedUp) -> tuple[Tensor, Tensor]:
    """Compares each target with the items of its past; both must come from one look-up.

    Args:
        target: Looked-up targets, with rows (B,).
        past: Looked-up items of the past, with rows (B, T), or (1, T) of one user for all targets.

    Returns:
        Cosines of the content (B, T) float32, and (B, T) bool, True where both items have content.
    """
    parts, past_rows = target.content_parts, past.rows.expand(len(target.rows), -1)
    squared, has_content = _sum(part.square().sum(1) for part in parts), _any(parts)
    scale = squared.clamp(min=1e-24).rsqrt()  # as functional.normalize
    # Parts are compared one by one and scaled in the end: a part that is not trained, a frozen vector, needs no gradient.
    product = _sum(_products(part, target.rows, past_rows) for part in parts)
    scales = functional.embedding(past_rows, scale.unsqueeze(1)).squeeze(2) * scale[target.rows].unsqueeze(1)
    return product * scales, has_content[past_rows] & has_content[target.rows].unsqueeze(1)


def _products(part: Tensor, target: Tensor, past: Tensor) -> Tensor:
    """Returns the inner products (B, T) of the rows ``target`` (B,) of part (U, W) with its rows ``past`` (B, T)."""
    if len(part) <= _MAX_UNIQUE_PER_BEHAVIOR * past.shape[1]:  # one matrix product beats B x T gathered vectors
        return (part[target] @ part.T).gather(1, past)
    return torch.einsum("bd,btd->bt", part[target], functional.embedding(past, part))


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    first, *others = tensors
    for other in others:
        first = first + other
    return first


def _any(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.detach().any(dim=1) for part in parts]).any(0)
