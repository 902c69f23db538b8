"""Pull items to what their residual codes decode to, so that codes that are fitted afterwards lose less of them.

In: embeddings of all items at the start of an epoch. Out: codes, which stay until the next epoch, and a loss. The codes of
training are small; those that are published are fitted afterwards. Source: the commitment loss of VQ-VAE, arXiv 1711.00937,
equation 3, with codes that are not chosen anew in each step, which keeps an item near its place as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qarm_features.quantizers.arrays.codebooks import pad_levels
from qarm_features.quantizers.arrays.lloyd import assign_codes, nearest_codes
from qarm_features.quantizers.sample_fits import fit_sample

LEVELS, SIZE = 3, 64
SAMPLE = 20_000  # approximate number of items that the codes are fitted to
AT_ONCE = 65_536  # items whose embeddings are in memory together


class ResidualCodes(NamedTuple):
    """Hold the codes of all items.

    Attributes:
        codes: Codes (m, L) uint8.
        codebooks: Codebooks (L, K, D) float32, with K at most 64; smaller levels end in rows of NaN.
    """

    codes: Tensor
    codebooks: Tensor

    def decode(self, index: np.ndarray) -> Tensor:
        """Return what the codes of B items decode to.

        Args:
            index: Item indexes (B,) int64.

        Returns:
            The sum (B, D) float32 of their centroids.
        """
        return self.codebooks[torch.arange(len(self.codebooks)), self.codes[torch.from_numpy(index)].long()].sum(1)


def fit_codebooks(embeddings: Tensor, *, seed: int) -> np.ndarray | None:
    """Fit residual codes to a sample.

    Args:
        embeddings: Embeddings (S, D); 0 for a rejected item, which is left out.
        seed: Seed of the draws, at least 0.

    Returns:
        Codebooks (L, K, D) float32, with K at most 64; None if all items are rejected.
    """
    left = embeddings[embeddings.any(1)].numpy(force=True)
    if not len(left):
        return None
    levels = []
    for level in range(LEVELS):
        levels.append(fit_sample(left, SIZE, seed=seed * LEVELS + level))
        left = left - levels[-1][nearest_codes(left, levels[-1])]
    return pad_levels(levels)


def codes_of(embeddings: Tensor, codebooks: np.ndarray) -> Tensor:
    """Return the codes (B, L) uint8 of embeddings (B, D): the nearest centroid of each level."""
    return torch.from_numpy(assign_codes(embeddings.numpy(force=True), codebooks).astype(np.uint8))


def code_loss(embeddings: Tensor, index: np.ndarray, codes: ResidualCodes) -> Tensor:
    """Compute the mean squared distance of items to what their codes decode to.

    Args:
        embeddings: Embeddings (B, D) of items; 0 for a rejected item, which does not count.
        index: Item indexes (B,) int64; an item that occurs several times counts once.
        codes: Codes of all items.

    Returns:
        The loss, of shape (), at least 0.
    """
    _, place, times = np.unique(index, return_inverse=True, return_counts=True)
    weight = torch.from_numpy(1 / times[place]).to(embeddings) * embeddings.detach().any(1)
    distance = (embeddings - codes.decode(index).to(embeddings.device)).square().sum(1)
    return (distance * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
