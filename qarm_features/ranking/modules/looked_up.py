"""Tensors of unique items, seen from the places of a batch where these items occur.

In: tensors that were computed once per distinct item of a batch. Out: these tensors for every occurrence, and cosines.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

_MAX_UNIQUE_PER_BEHAVIOR = 64  # up to this many, every target is compared with every unique item


@dataclass
class LookedUp:
    """The tensors that item features computed once per unique item, for items at places of any shape.

    Args:
        parts: (U, W) float32 of the unique items; zeros where nothing is known of an item.
        rows: (...) int64 row of ``parts`` for each place.
        content_start: First column of the content in ``parts``; all columns from it on are content.
        columns: Columns of ``parts`` by the name of the item feature that computed them.
    """

    parts: Tensor
    rows: Tensor
    content_start: int
    columns: Mapping[str, slice] = field(default_factory=dict)

    def of(self, name: str) -> Tensor:
        """Returns what the item feature ``name`` computed, (..., W') float32."""
        columns, start = self.columns[name], self.content_start
        if columns.start >= start:  # the content is gathered once for all item features
            return self.content[..., columns.start - start : columns.stop - start]
        return functional.embedding(self.rows, self.parts[:, columns])

    @cached_property
    def content(self) -> Tensor:
        """The content embeddings, (..., D) float32."""
        return functional.embedding(self.rows, self.unique_content)

    @property
    def unique_content(self) -> Tensor:
        """The content embeddings of the unique items, (U, D) float32."""
        return self.parts[:, self.content_start :]


def content_cosines(target: LookedUp, past: LookedUp) -> tuple[Tensor, Tensor]:
    """Compares each target with the items of its past; both must come from one look-up.

    Args:
        target: Looked-up targets, with rows (B,).
        past: Looked-up items of the past, with rows (B, T), or (1, T) of one user for all targets.

    Returns:
        Cosines of the content (B, T) float32, and (B, T) bool, True where both items have content.
    """
    unit = functional.normalize(target.unique_content, dim=1)
    has_content = target.unique_content.detach().any(dim=1)
    past_rows = past.rows.expand(len(target.rows), -1)
    if len(unit) <= _MAX_UNIQUE_PER_BEHAVIOR * past_rows.shape[1]:  # one matrix product beats B x T gathered vectors
        cosine = (unit[target.rows] @ unit.T).gather(1, past_rows)
    else:
        cosine = torch.einsum("bd,btd->bt", unit[target.rows], functional.embedding(past_rows, unit))
    return cosine, has_content[past_rows] & has_content[target.rows].unsqueeze(1)
