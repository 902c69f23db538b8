"""Items by index become embeddings: reads and decodes each, and keeps what does not change while the encoder trains.

In: item indexes. Out: embeddings (B, D). Tokens of a frozen backbone are computed once of an item and kept as float16;
what a trained backbone reads is decoded once. What does not fit into ``cache_bytes`` is computed again each time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from qarm_features.alignment.training_data import PackedItems
from qarm_features.fusion.tokens import Tokens

_BLOCK = 64  # neighboring items whose tokens are computed together


class ItemContent:
    """Encodes items by index.

    Args:
        encoder: an ``ItemEncoder`` with a Fusion-Q-Former.
        items: raw columns.
        cache_bytes: memory for tokens and decoded values.

    Attributes:
        rejected: reason by item index, of the items seen so far whose content is broken or empty.
    """

    def __init__(self, encoder: nn.Module, items: PackedItems, *, cache_bytes: int):
        self.encoder, self.items = encoder, items
        self.frozen = [name for name, module in encoder.encoders.items() if not module.trained]
        self.rejected: dict[int, str] = {}
        self._cache: dict[int, dict[str, Any]] = {}
        self._room = cache_bytes
        self._full = False

    def encode(self, index: np.ndarray) -> Tensor:
        """Encodes B items by what alignment trains: without what ``frozen_weight`` sets beside it.

        Returns:
            (B, D) float32 on the encoder's device, D of the Q-Former; all 0 where the item is rejected.
        """
        rows = self._rows(index)
        kept = [row for row in rows if row is not None]
        device = next(self.encoder.parameters()).device
        embeddings = torch.zeros(len(rows), self.encoder.q_former.dim, device=device)
        if not kept:
            return embeddings
        pooled = self.encoder.q_former(self._tokens(kept, device)).pooled
        if len(kept) == len(rows):
            return pooled
        where = torch.tensor([place for place, row in enumerate(rows) if row is not None], device=device)
        return embeddings.index_copy(0, where, pooled)

    @torch.no_grad()
    def frozen_geometry(self, index: np.ndarray) -> Tensor:
        """Returns what the frozen backbones say of A items: their pooled tokens side by side.

        Returns:
            (A, D) unit L2 norm, D the sum over frozen modalities; all 0 where an item has none of them.
        """
        rows, parts = self._rows(index), []
        for name in self.frozen:
            part = torch.zeros(len(rows), self.encoder.encoders[name].dim)
            for place, row in enumerate(rows):
                if row and name in row:
                    part[place] = normalize(row[name].float().mean(0), dim=-1)
            parts.append(part)
        together = torch.cat(parts or [torch.zeros(len(rows), 1)], dim=1)
        return normalize(together, dim=-1).to(next(self.encoder.parameters()).device)

    def _rows(self, index: np.ndarray) -> list[dict[str, Any] | None]:
        """Returns per item the float16 tokens (N, D) of frozen and the decoded values of trained modalities."""
        missing = [item for item in index.tolist() if item not in self._cache and item not in self.rejected]
        if missing and not self._full:
            # Whole blocks, so that an item's tokens do not depend on the batch in which it was met first.
            blocks = sorted({item // _BLOCK for item in missing})
            for block in blocks:
                items = range(block * _BLOCK, min((block + 1) * _BLOCK, len(self.items)))
                self._keep(self._compute([item for item in items if item not in self._cache]))
            missing = [item for item in missing if item not in self._cache and item not in self.rejected]
        computed = self._compute(missing)
        return [self._cache.get(item) or computed.get(item) for item in index.tolist()]

    def _compute(self, items: list[int]) -> dict[int, dict[str, Any]]:
        """Reads, decodes and, by frozen backbones, encodes items; remembers the rejected ones."""
        if not items:
            return {}
        decoded, reasons = self.encoder.decode(self.items.columns(np.array(items)))
        self.rejected |= {item: reason or "no content" for item, row, reason in zip(items, decoded, reasons) if not row}
        rows = {item: dict(row) for item, row in zip(items, decoded) if row}
        for name in self.frozen:
            having = [item for item, row in rows.items() if name in row]
            if having:
                with torch.no_grad():
                    values, mask = self.encoder.modality_tokens(name, [rows[item][name] for item in having])
                for item, tokens, stands in zip(having, values.cpu(), mask.cpu()):
                    rows[item][name] = _compact(tokens[stands])
        return rows

    def _keep(self, rows: dict[int, dict[str, Any]]) -> None:
        for item, row in rows.items():
            size = _size_of(row)
            if size > self._room:
                self._full = True
                return
            self._room -= size
            self._cache[item] = row

    def _tokens(self, rows: list[dict[str, Any]], device: torch.device) -> dict[str, Tokens]:
        tokens = {}
        for name in self.encoder.encoders:
            where = [place for place, row in enumerate(rows) if name in row]
            if not where:
                continue
            own = [rows[place][name] for place in where]
            if name in self.frozen:
                if len({part.dtype for part in own}) > 1:
                    own = [part.float() for part in own]
                values = pad_sequence(own, batch_first=True).to(device).float()
                lengths = torch.tensor([len(part) for part in own], device=device)
                mask = torch.arange(values.shape[1], device=device) < lengths[:, None]
            else:
                values, mask = self.encoder.modality_tokens(name, own)
            if len(where) < len(rows):
                place = torch.tensor(where, device=device)
                values = values.new_zeros(len(rows), *values.shape[1:]).index_copy(0, place, values)
                mask = mask.new_zeros(len(rows), *mask.shape[1:]).index_copy(0, place, mask)
            tokens[name] = Tokens(values, mask)
        return tokens


def _compact(tokens: Tensor) -> Tensor:
    """Returns the tokens as float16, unless they are so large or small that float16 cannot hold them."""
    largest = tokens.abs().max()
    return tokens.to(torch.float16) if 1e-2 < largest < 6e4 else tokens.clone()


def _size_of(value: Any) -> int:
    """Returns about how many bytes a decoded value takes."""
    if isinstance(value, dict):
        return 200 + sum(_size_of(part) for part in value.values())
    if isinstance(value, list | tuple):
        return 60 + sum(_size_of(part) for part in value)
    return 100 + (getattr(value, "nbytes", None) or (len(value) if isinstance(value, str | bytes) else 0))
