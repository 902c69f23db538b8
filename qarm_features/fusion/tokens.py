"""What every encoder returns, and what it raises for a row that it cannot read."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tokens(NamedTuple):
    """Tokens of one modality.

    Attributes:
        values: (B, N, D) float.
        mask: (B, N) bool, True where a token stands.
    """

    values: Tensor
    mask: Tensor


class BrokenContent(ValueError):
    """One row's content cannot be decoded; ``str(error)`` is the reason, free of the row's own content."""


def mean_pool(tokens: Tokens) -> Tensor:
    """Averages the tokens that stand; a masked one contributes nothing, whatever its value.

    Args:
        tokens: (B, N, D) and its mask (B, N).

    Returns:
        (B, D); zeros where no token stands.
    """
    values, mask = tokens
    # Not times the mask: NaN times zero is NaN.
    return values.masked_fill(~mask.unsqueeze(-1), 0.0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def average_tokens(tokens: Tokens, most: int) -> Tokens:
    """Averages neighboring tokens until at most ``most`` stand in a row, each of about equally many.

    Args:
        tokens: (B, N, D) and its mask (B, N).
        most: at least 1.

    Returns:
        (B, ``most``, D) and its mask; as it came where N is not above ``most``.
    """
    values, mask = tokens
    if values.shape[1] <= most:
        return tokens
    place = mask.cumsum(1) - 1
    number = mask.sum(1, keepdim=True)
    run = torch.where(number > most, place * most // number.clamp(min=1), place).clamp(min=0)
    count = torch.zeros(len(values), most, dtype=values.dtype, device=values.device)
    count = count.scatter_add(1, run, mask.to(values.dtype))
    total = values.new_zeros(len(values), most, values.shape[2])
    standing = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    total = total.scatter_add(1, run.unsqueeze(-1).expand_as(standing), standing)
    return Tokens(total / count.clamp(min=1).unsqueeze(-1), count > 0)
