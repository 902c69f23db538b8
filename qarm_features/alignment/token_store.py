"""Store the tokens of items that one frozen modality computed, so that a batch of them is read by one gather.

In: tokens (N, D) of single items, with any N. Out: ``Tokens`` (B, N, D) of a batch, without a loop over its items.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from qarm_features.fusion.tokens import Tokens

_HIGHEST, _LOWEST = 6e4, 1e-2  # largest absolute value of tokens that float16 can hold well enough


class TokenStore:
    """Hold the tokens of items one after the other in one array.

    Args:
        num_items: Number of items whose tokens can be stored, by item index.
        dim: D of the tokens.
        capacity: Greatest number of tokens. Memory is used only for tokens that are stored, because the operating system
            provides a page when it is first written.

    """

    def __init__(self, num_items: int, dim: int, capacity: int) -> None:
        self._values = torch.empty(capacity, dim, dtype=torch.float16)
        self._start = torch.zeros(num_items, dtype=torch.int64)
        self._count = torch.zeros(num_items, dtype=torch.int64)
        self._used = 0

    @property
    def num_bytes(self) -> int:
        """Return the bytes of the tokens that are stored."""
        return self._used * self._values.shape[1] * self._values.element_size()

    def bytes_with(self, tokens: Tensor) -> int:
        """Return ``num_bytes`` as it would be with the tokens of one more item, from ``compact``."""
        size = max(self._values.element_size(), tokens.element_size())
        return (self._used + len(tokens)) * tokens.shape[1] * size

    def add(self, item: int, tokens: Tensor) -> bool:
        """Store the tokens of an item.

        Args:
            item: Item index, not stored before.
            tokens: Tokens (N, D) from ``compact``.

        Returns:
            False, and nothing is stored, if there is no room for them.
        """
        end = self._used + len(tokens)
        if end > len(self._values):
            return False
        if tokens.dtype != self._values.dtype and self._values.dtype == torch.float16:
            wider = torch.empty(self._values.shape, dtype=torch.float32)
            wider[: self._used] = self._values[: self._used].float()
            self._values = wider
        self._values[self._used : end] = tokens
        self._start[item], self._count[item] = self._used, len(tokens)
        self._used = end
        return True

    def gather(self, index: np.ndarray, others: Mapping[int, Tensor] | None = None) -> Tokens:
        """Return the tokens of B items.

        Args:
            index: Item indexes (B,) int64.
            others: Tokens (N, D) of items that are not stored, by item index. An item that is in neither has no token.

        Returns:
            Values (B, N, D) float32, with N of the item with most tokens, 0 where masked; and mask (B, N).
        """
        items = torch.from_numpy(index)
        start, count = self._start[items], self._count[items]
        places = [place for place, item in enumerate(index.tolist()) if item in others] if others else []
        for place in places:
            assert others is not None  # there are places only of others
            count[place] = len(others[int(index[place])])
        step = torch.arange(int(count.max()) if len(count) else 0)
        mask = step < count[:, None]
        shape = (*mask.shape, self._values.shape[1])
        if self._used:
            rows = (start[:, None] + step).clamp_(max=self._used - 1)
            values = self._values.index_select(0, rows.flatten()).view(shape).float()
            if not bool(mask.all()):
                values.masked_fill_(~mask.unsqueeze(-1), 0.0)
        else:
            values = torch.zeros(shape)
        for place in places:
            assert others is not None  # there are places only of others
            tokens = others[int(index[place])]
            values[place, : len(tokens)] = tokens.float()
        return Tokens(values, mask)


def compact(tokens: Tensor) -> Tensor:
    """Return tokens as float16, unless their values are too large or too small for it.

    Args:
        tokens: Tokens (N, D) of an item.
    """
    largest = tokens.abs().max()
    return tokens.to(torch.float16) if _LOWEST < largest < _HIGHEST else tokens.clone()
