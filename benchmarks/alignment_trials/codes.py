"""Residual codes in the loss of alignment: each item is pulled to what its codes decode to.

In: the content of items and a weight. Out: the same content, whose embeddings have one more gradient. Codes are fitted anew
at the start of an epoch, to the embeddings of all items. Source: the commitment loss of VQ-VAE, arXiv 1711.00937, equation 3.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

LEVELS, SIZE = 3, 64


def decoded(embeddings: np.ndarray, *, seed: int) -> np.ndarray:
    """Return what residual k-means of 3 levels of 64 codes decodes embeddings (n, D) to, (n, D) float32."""
    left, sum_ = embeddings.astype(np.float32), np.zeros(embeddings.shape, np.float32)
    for level in range(LEVELS):
        kmeans = faiss.Kmeans(left.shape[1], SIZE, niter=20, seed=seed + level, min_points_per_centroid=1)
        kmeans.train(left)
        nearest = kmeans.centroids[kmeans.index.search(left, 1)[1][:, 0]]
        left, sum_ = left - nearest, sum_ + nearest
    return sum_


class PulledToCodes:
    """The content of items, whose embeddings are pulled to what their codes decode to.

    Args:
        content: Content of the items.
        weight: Weight of the mean squared distance of the items that are encoded at once.
        seed: Seed of the codes.
    """

    def __init__(self, content: Any, weight: float, seed: int) -> None:
        self._content, self._weight, self._seed = content, weight, seed
        self._decoded: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        """Return what the content has."""
        return getattr(self._content, name)

    @torch.no_grad()
    def fit(self) -> None:
        """Fit codes to the present embeddings of all items."""
        parts = np.array_split(np.arange(len(self._content.items)), 1 + len(self._content.items) // 512)
        embeddings = torch.cat([self._content.encode(part) for part in parts])
        self._decoded = torch.from_numpy(decoded(embeddings.numpy(), seed=self._seed))

    def encode(self, index: np.ndarray) -> Tensor:
        """Encode B items to (B, D)."""
        embeddings = self._content.encode(index)
        if self._decoded is None or not embeddings.requires_grad:
            return embeddings
        pull: Tensor = _Pulled.apply(embeddings, self._decoded[torch.from_numpy(index)], self._weight)
        return pull


class _Pulled(torch.autograd.Function):
    """Returns the embeddings, and adds the gradient of the mean squared distance to ``decoded`` on the way back."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, decoded: Tensor, weight: float) -> Tensor:
        ctx.save_for_backward(embeddings, decoded)
        ctx.weight = weight
        return embeddings.view_as(embeddings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        embeddings, decoded = ctx.saved_tensors
        return gradient + 2 * ctx.weight / len(embeddings) * (embeddings - decoded), None, None
