"""Encode items by index, and cache everything that does not change while the encoder trains.

In: item indexes. Out: embeddings (B, D). The tokens of a frozen backbone are computed once for each item and cached as
float16; the input of a trained backbone is decoded once. Items that do not fit into ``cache_bytes`` are read again each time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from qarm_features.alignment.training_data import PackedItems
from qarm_features.encoders.item_encoder import ItemEncoder
from qarm_features.encoders.modality_encoder import has_head, vector_dim
from qarm_features.fusion.tokens import Tokens, spread_tokens

_BLOCK = 64  # neighboring items whose tokens are computed together
_VECTOR = "vector of {}"  # entry of a row that holds the published vector of a frozen modality


class ItemContent:
    """Encode items by index.

    Args:
        encoder: Encoder with a Fusion-Q-Former.
        items: Raw columns of the items.
        cache_bytes: Memory for tokens and decoded values, in bytes, at least 0.

    Attributes:
        rejected: Reasons by item index, for the items read so far whose content is broken or empty.
    """

    def __init__(self, encoder: ItemEncoder, items: PackedItems, *, cache_bytes: int) -> None:
        assert encoder.q_former is not None  # align() refuses an encoder without one
        self.encoder, self.q_former, self.items = encoder, encoder.q_former, items
        self.frozen = [name for name, modality in encoder.by_modality.items() if not modality.trained]
        self.rejected: dict[int, str] = {}
        self._cache: dict[int, dict[str, Any]] = {}
        self._room = cache_bytes
        self._full = False

    def encode(self, index: np.ndarray) -> Tensor:
        """Encode B items by the Q-Former, which alignment trains, without the concatenated output of frozen backbones.

        Args:
            index: Item indexes (B,) int64.

        Returns:
            Embeddings (B, D) float32 on the device of the encoder, with D of the Q-Former; 0 for a rejected item.
        """
        rows = self._rows(index)
        valid = [row for row in rows if row is not None]
        device = self.encoder.device
        embeddings = torch.zeros(len(rows), self.q_former.dim, device=device)
        if not valid:
            return embeddings
        pooled = self.q_former(self._tokens(valid, device)).pooled
        if len(valid) == len(rows):
            return pooled
        places = torch.tensor([place for place, row in enumerate(rows) if row is not None], device=device)
        return embeddings.index_copy(0, places, pooled)

    @torch.no_grad()
    def frozen_geometry(self, index: np.ndarray) -> Tensor:
        """Return the concatenated vectors of the frozen backbones for A items.

        Args:
            index: Item indexes (A,) int64.

        Returns:
            Embeddings (A, D) of unit L2 norm, with D the sum over frozen modalities; 0 for an item without any of them.
        """
        rows, parts = self._rows(index), []
        encoders = self.encoder.by_modality
        for name in self.frozen:
            part = torch.zeros(len(rows), vector_dim(encoders[name]))
            for place, row in enumerate(rows):
                if row and name in row:
                    vector = row.get(_VECTOR.format(name))
                    part[place] = normalize(row[name].float().mean(0) if vector is None else vector, dim=-1)
            parts.append(part)
        together = torch.cat(parts or [torch.zeros(len(rows), 1)], dim=1)
        return normalize(together, dim=-1).to(self.encoder.device)

    def _rows(self, index: np.ndarray) -> list[dict[str, Any] | None]:
        """Return for each item the float16 tokens (N, D) of frozen modalities and the decoded values of trained ones."""
        missing = [item for item in index.tolist() if item not in self._cache and item not in self.rejected]
        if missing and not self._full:
            # Whole blocks are encoded, so that the tokens of an item do not depend on the batch that needs it first.
            blocks = sorted({item // _BLOCK for item in missing})
            for block in blocks:
                items = range(block * _BLOCK, min((block + 1) * _BLOCK, len(self.items)))
                self._keep(self._compute([item for item in items if item not in self._cache]))
            missing = [item for item in missing if item not in self._cache and item not in self.rejected]
        computed = self._compute(missing)
        return [self._cache.get(item) or computed.get(item) for item in index.tolist()]

    def _compute(self, items: list[int]) -> dict[int, dict[str, Any]]:
        """Read and decode items, encode them by the frozen backbones, and record the reasons of rejected items."""
        if not items:
            return {}
        decoded, reasons = self.encoder.decode(self.items.columns(np.array(items)))
        self.rejected |= {item: reason or "no content" for item, row, reason in zip(items, decoded, reasons) if not row}
        rows = {item: dict(row) for item, row in zip(items, decoded) if row}
        encoders = self.encoder.by_modality
        for name in self.frozen:
            present = [item for item, row in rows.items() if name in row]
            if present:
                with torch.no_grad():
                    (values, mask), pooled = self.encoder.modality_output(name, [rows[item][name] for item in present])
                for item, tokens, is_valid, vector in zip(present, values.cpu(), mask.cpu(), pooled.cpu()):
                    rows[item][name] = _compact(tokens[is_valid])
                    if has_head(encoders[name]):  # any other vector is the mean of the tokens
                        rows[item][_VECTOR.format(name)] = vector.clone()
        return rows

    def _keep(self, rows: dict[int, dict[str, Any]]) -> None:
        for item, row in rows.items():
            size = _num_bytes(row)
            if size > self._room:
                self._full = True
                return
            self._room -= size
            self._cache[item] = row

    def _tokens(self, rows: list[dict[str, Any]], device: torch.device) -> dict[str, Tokens]:
        tokens: dict[str, Tokens] = {}
        for name in self.encoder.encoders:
            places = [place for place, row in enumerate(rows) if name in row]
            if not places:
                continue
            own = [rows[place][name] for place in places]
            if name in self.frozen:
                if len({part.dtype for part in own}) > 1:
                    own = [part.float() for part in own]
                values = pad_sequence(own, batch_first=True).to(device).float()
                lengths = torch.tensor([len(part) for part in own], device=device)
                mask = torch.arange(values.shape[1], device=device) < lengths[:, None]
            else:
                values, mask = self.encoder.modality_output(name, own).tokens
            tokens[name] = spread_tokens(Tokens(values, mask), places, len(rows))
        return tokens


def _compact(tokens: Tensor) -> Tensor:
    """Return the tokens as float16, unless their values are too large or too small for it."""
    largest = tokens.abs().max()
    return tokens.to(torch.float16) if 1e-2 < largest < 6e4 else tokens.clone()


def _num_bytes(value: Any) -> int:
    """Return the approximate number of bytes of a decoded value."""
    if isinstance(value, dict):
        return 200 + sum(_num_bytes(part) for part in value.values())
    if isinstance(value, list | tuple):
        return 60 + sum(_num_bytes(part) for part in value)
    return 100 + (getattr(value, "nbytes", None) or (len(value) if isinstance(value, str | bytes) else 0))
