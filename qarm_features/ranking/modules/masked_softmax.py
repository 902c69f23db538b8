"""Scores in, attention weights of what is there out."""

import torch
from torch import Tensor


def masked_softmax(score: Tensor, mask: Tensor, *, dim: int) -> Tensor:
    """Computes the softmax over the entries that are there.

    Args:
        score: (...) float.
        mask: bool, broadcast to score, True where there is an entry.
        dim: over which the weights add up to 1.

    Returns:
        (...) weights, 0 where masked; all 0 where nothing is there.
    """
    # The lowest finite number, not -inf: where nothing is there, that would turn into NaN.
    return score.masked_fill(~mask, torch.finfo(score.dtype).min).softmax(dim=dim) * mask
