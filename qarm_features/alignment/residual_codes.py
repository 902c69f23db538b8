"""Pull embeddings to what residual codes decode to, so that codes fitted afterwards lose less of them.

In: embeddings of a sample of the catalog. Out: a loss. The codes of training are small and fitted anew at the start of each
epoch; those that are published are fitted afterwards. Source: the commitment loss of VQ-VAE, arXiv 1711.00937, equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qarm_features.quantizers.sample_fits import fit_sample

LEVELS, SIZE = 3, 64
SAMPLE = 20_000  # greatest number of items that the codes are fitted to


def fit_codes(embeddings: Tensor, *, seed: int) -> list[Tensor]:
    """Fit residual codes to a sample.

    Args:
        embeddings: Embeddings (S, D); 0 for a rejected item, which is left out.
        seed: Seed of the draws, at least 0.

    Returns:
        Centroids (K, D) float32 of each level, with K at most 64; none if all items are rejected.
    """
    left = embeddings[embeddings.any(1)].numpy(force=True).astype(np.float32)
    levels: list[Tensor] = []
    for level in range(LEVELS if len(left) else 0):
        centroids = torch.from_numpy(fit_sample(left, SIZE, seed=seed * LEVELS + level))
        levels.append(centroids.to(embeddings.device))
        left = left - centroids[torch.cdist(torch.from_numpy(left), centroids).argmin(1)].numpy()
    return levels


@torch.no_grad()
def decode(embeddings: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """Return what the codes of embeddings (B, D) decode to: the sum (B, D) of the nearest centroid of each level."""
    left = embeddings.float()
    for centroids in levels:
        left = left - centroids[torch.cdist(left, centroids).argmin(1)]
    return embeddings.float() - left


def code_loss(embeddings: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """Compute the mean squared distance of embeddings to what their codes decode to, which has no gradient.

    Args:
        embeddings: Embeddings (B, D) of items; 0 for a rejected item, which does not count.
        levels: Centroids of each level.

    Returns:
        The loss, of shape (), at least 0.
    """
    counts = embeddings.detach().any(1)
    distance = (embeddings - decode(embeddings, levels)).square().sum(1)
    return (distance * counts).sum() / counts.sum().clamp(min=1)
