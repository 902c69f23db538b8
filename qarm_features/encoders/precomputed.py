"""Pass vectors that the user computed through as tokens, one token for each item.

In: B arrays of D numbers. Out: ``Tokens`` of shape (B, 1, D).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from qarm_features.fusion.tokens import BrokenContent, Tokens


class PrecomputedEncoder(nn.Module):
    """Pass the user's own vectors through without any weights.

    Args:
        backbone: Name of the source of the vectors; it is saved with the encoder and has no other effect.
        dim: D, the length of a vector, at least 1.
        sha256: Unused, because there are no weights; accepted so that all encoders take the same arguments.
        lora_rank: Unused, for the same reason.

    Raises:
        ValueError: ``dim`` is below 1.

    Example:
        >>> encoder = PrecomputedEncoder(dim=3)
        >>> tokens = encoder([encoder.decode([1.0, 2.0, 3.0])])
        >>> tokens.values.tolist()
        [[[1.0, 2.0, 3.0]]]
    """

    _place: torch.Tensor

    def __init__(
        self, backbone: str = "precomputed", *, dim: int, sha256: str | None = None, lora_rank: int = 0
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"items.precomputed_dim is {dim}, must be at least 1.")
        self._dim = dim
        self.trained = False
        self.config: dict[str, Any] = {"backbone": backbone, "dim": dim}
        # A module without weights does not record the device given to ``to()``; an empty buffer does.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def dim(self) -> int:
        """Return D, the dimension of the tokens."""
        return self._dim

    def frozen_names(self) -> set[str]:
        """Return the empty set, because there are no weights."""
        return set()

    def decode(self, raw: Sequence[float]) -> np.ndarray:
        """Return the vector (D,) float32.

        Args:
            raw: D numbers.

        Returns:
            The numbers as an array (D,) float32.

        Raises:
            BrokenContent: The vector has another length, holds null, NaN or infinity, or is all zero.
        """
        try:
            with np.errstate(over="ignore"):  # a number too large for float32 becomes infinity, refused below
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
        """Stack B vectors.

        Args:
            decoded: B vectors (D,) float32.

        Returns:
            ``Tokens`` of shape (B, 1, D).
        """
        stacked = np.stack(decoded) if len(decoded) else np.empty((0, self.dim), np.float32)
        values = torch.from_numpy(stacked).to(self._place.device)[:, None]
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))
