"""Define ``Tokens``, which every encoder returns, and ``BrokenContent``, which it raises for a row that it cannot read.

In: token values (B, N, D) and masks (B, N). Out: tokens that are pooled, averaged or spread over more rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from qarm_features.decoding.broken_content import BrokenContent

__all__ = ["BrokenContent", "Tokens", "average_tokens", "mean_pool", "spread_tokens"]


class Tokens(NamedTuple):
    """Hold the tokens of one modality.

    Attributes:
        values: Token values (B, N, D) float.
        mask: Mask (B, N) bool, True for a valid token.

    Example:
        >>> tokens = Tokens(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
        >>> tokens.mask.sum(1).tolist()
        [3, 3]
    """

    values: Tensor
    mask: Tensor


def mean_pool(tokens: Tokens) -> Tensor:
    """Average the valid tokens of each row; the values of masked tokens are ignored, even if they are NaN.

    Args:
        tokens: Values (B, N, D) and mask (B, N).

    Returns:
        Means (B, D); 0 for a row without a valid token.
    """
    values, mask = tokens
    # masked_fill instead of a product with the mask, because NaN times 0 is NaN.
    return values.masked_fill(~mask.unsqueeze(-1), 0.0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def average_tokens(tokens: Tokens, most: int, *, alone: Literal["first", "last"] | None = None) -> Tokens:
    """Average runs of neighboring tokens, of about equal length, so that each row has at most ``most`` tokens.

    Args:
        tokens: Values (B, N, D) and mask (B, N).
        most: Greatest number of tokens of a row, at least 1.
        alone: Token of each row that is kept as it is, for example because the authors of a backbone trained only its state;
            None averages all alike.

    Returns:
        Values (B, ``most``, D) and mask (B, ``most``); ``tokens`` itself if N is at most ``most``.
    """
    values, mask = tokens
    if values.shape[1] <= most:
        return tokens
    place = mask.cumsum(1) - 1
    number = mask.sum(1, keepdim=True)
    if alone is not None and most == 1:
        mask = mask & (place == (0 if alone == "first" else number - 1))
        run = torch.zeros_like(place)
    elif alone is None:
        run = torch.where(number > most, place * most // number.clamp(min=1), place).clamp(min=0)
    else:
        others = place - 1 if alone == "first" else place
        others = others * (most - 1) // (number - 1).clamp(min=1)
        run = torch.where(place == 0, 0, 1 + others) if alone == "first" else others
        run = torch.where(number > most, run, place).clamp(min=0, max=most - 1)
    count = torch.zeros(len(values), most, dtype=values.dtype, device=values.device)
    count = count.scatter_add(1, run, mask.to(values.dtype))
    total = values.new_zeros(len(values), most, values.shape[2])
    valid = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    total = total.scatter_add(1, run.unsqueeze(-1).expand_as(valid), valid)
    return Tokens(total / count.clamp(min=1).unsqueeze(-1), count > 0)


def spread_tokens(tokens: Tokens, places: Sequence[int], num_rows: int) -> Tokens:
    """Place the tokens of some rows into a batch of more rows; all tokens of the other rows are masked.

    Args:
        tokens: Values (A, N, D) and mask (A, N).
        places: Row in the result of each of the A rows, ascending, in [0, num_rows).
        num_rows: B, at least A.

    Returns:
        Values (B, N, D) and mask (B, N); ``tokens`` itself if A is B.
    """
    values, mask = tokens
    if len(places) == num_rows:
        return tokens
    index = torch.tensor(places, device=values.device)
    return Tokens(
        values.new_zeros(num_rows, *values.shape[1:]).index_copy(0, index, values),
        mask.new_zeros(num_rows, *mask.shape[1:]).index_copy(0, index, mask),
    )
