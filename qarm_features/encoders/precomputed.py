"""Vectors that the user computed become tokens: one token a row.

In: B arrays of D numbers. Out: ``Tokens`` of shape (B, 1, D).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from qarm_features.fusion.tokens import BrokenContent, Tokens


class PrecomputedEncoder(nn.Module):
    """Passes the user's own vectors through; it has no weights.

    Args:
        backbone: Any name; kept beside the encoder so that it says where the vectors come from.
        dim: D, numbers in a vector, at least 1.
        sha256: Unused: there are no weights. Taken so that all encoders are built alike.
        lora_rank: Unused likewise.

    Raises:
        ValueError: ``dim`` is below 1.
    """

    trained = False

    def __init__(self, backbone: str = "precomputed", *, dim: int, sha256: str | None = None, lora_rank: int = 0):
        super().__init__()
        if dim < 1:
            raise ValueError(f"items.precomputed_dim is {dim}, must be at least 1.")
        self._dim = dim
        self.config = {"backbone": backbone, "dim": dim}
        # Weightless, yet it must know where ``to()`` put it.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def dim(self) -> int:
        """D of the tokens."""
        return self._dim

    def frozen_names(self) -> set[str]:
        """Returns the empty set: there are no weights."""
        return set()

    def decode(self, raw: Sequence[float]) -> np.ndarray:
        """Returns the vector (D,) float32.

        Raises:
            BrokenContent: It has another length, holds null, NaN or infinity, or is all zero.
        """
        try:
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, and is refused as such
                vector = np.asarray(raw, np.float32)
        except (TypeError, ValueError):
            raise BrokenContent("precomputed is not an array of numbers") from None
        if vector.shape != (self.dim,):
            length = len(vector) if vector.ndim == 1 else "no"
            raise BrokenContent(f"precomputed has {length} numbers, must have {self.dim}")
        if not np.isfinite(vector).all():
            raise BrokenContent("precomputed holds null, NaN or infinity")
        if not vector.any():
            raise BrokenContent("precomputed is all zero")
        return vector

    def forward(self, decoded: Sequence[np.ndarray]) -> Tokens:
        """Stacks B vectors.

        Returns:
            ``Tokens`` of shape (B, 1, D).
        """
        stacked = np.stack(decoded) if len(decoded) else np.empty((0, self.dim), np.float32)
        values = torch.from_numpy(stacked).to(self._place.device)[:, None]
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))
