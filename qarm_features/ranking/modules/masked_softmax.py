"""A softmax over the entries that a mask leaves.

In: scores and a mask. Out: weights.
"""

import torch
from torch import Tensor


def masked_softmax(score: Tensor, mask: Tensor, *, dim: int) -> Tensor:
    """Computes the softmax over the entries that are not masked.

    Args:
        score: (...) float.
        mask: Bool tensor that broadcasts to score, True where there is an entry.
        dim: Dimension over which the weights add up to 1.

    Returns:
        (...) weights, 0 where masked; all 0 where there is no entry.
    """
    # The lowest finite number instead of -inf, which would give NaN where there is no entry.
    return score.masked_fill(~mask, torch.finfo(score.dtype).min).softmax(dim=dim) * mask
