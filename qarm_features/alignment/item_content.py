"""Encode items by index, and cache everything that does not change while the encoder trains.

In: item indexes. Out: embeddings (B, D). The tokens of a frozen backbone are computed once for each item and cached as
float16 in one array; the input of a trained backbone is decoded once. Items that do not fit into ``cache_bytes`` are read
again each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from qarm_features.alignment.token_store import TokenStore, compact
from qarm_features.alignment.training_data import PackedItems
from qarm_features.encoders.item_encoder import ItemEncoder, batches_by_length
from qarm_features.encoders.modality_encoder import has_head, vector_dim
from qarm_features.fusion.tokens import Tokens, mean_pool, spread_tokens

_BATCH = 64  # items whose tokens are computed together
_TEXT_BLOCK = 1024  # neighboring items among which texts of similar length share a batch, so that little is padded
Row = dict[str, Any]
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
        encoders = encoder.by_modality
        self.frozen = [name for name, modality in encoders.items() if not modality.trained]
        self.rejected: dict[int, str] = {}
        self._is_rejected, self._is_cached = np.zeros((2, len(items)), bool)
        self._tokens = {name: self._empty_store(name, cache_bytes) for name in self.frozen}
        # Any other vector than that of a head is the mean of the tokens.
        self._vectors: dict[str, Tensor] = {
            # Memory of numpy's zeros is used only where it is written.
            name: torch.from_numpy(np.zeros((len(items), vector_dim(encoders[name])), np.float32))
            for name in self.frozen
            if has_head(encoders[name])
        }
        self._decoded: dict[int, Row] = {}  # values of trained modalities
        self._cache_bytes, self._other_bytes = cache_bytes, 0
        # To read the bytes of media twice would cost more than it saves.
        self._block = _TEXT_BLOCK if encoder.columns == ["text"] else _BATCH
        self._full = False

    def encode(self, index: np.ndarray) -> Tensor:
        """Encode B items by the Q-Former, which alignment trains, without the concatenated output of frozen backbones.

        Args:
            index: Item indexes (B,) int64.

        Returns:
            Embeddings (B, D) float32 on the device of the encoder, with D of the Q-Former; 0 for a rejected item.
        """
        computed = self._prepare(index)
        device = self.encoder.device
        valid = np.flatnonzero(~self._is_rejected[index])
        if len(valid) == 0:
            return torch.zeros(len(index), self.q_former.dim, device=device)
        pooled = self.q_former(self._tokens_of(index[valid], computed)).pooled
        if len(valid) == len(index):
            return pooled
        embeddings = torch.zeros(len(index), self.q_former.dim, device=device)
        return embeddings.index_copy(0, torch.from_numpy(valid).to(device), pooled)

    @torch.no_grad()
    def frozen_geometry(self, index: np.ndarray) -> Tensor:
        """Return the concatenated vectors of the frozen backbones for A items.

        Args:
            index: Item indexes (A,) int64.

        Returns:
            Embeddings (A, D) of unit L2 norm, with D the sum over frozen modalities; 0 for an item without any of them.
        """
        computed, parts = self._prepare(index), []
        for name in self.frozen:
            if name not in self._vectors:
                parts.append(normalize(mean_pool(self._frozen_tokens(name, index, computed)), dim=-1))
                continue
            part = self._vectors[name][torch.from_numpy(index)]
            for place, item in enumerate(index.tolist() if computed else []):
                if name in computed.get(item, {}):
                    part[place] = computed[item][_VECTOR.format(name)]
            parts.append(part)
        together = torch.cat(parts or [torch.zeros(len(index), 1)], dim=1)
        return normalize(together, dim=-1).to(self.encoder.device)

    def _prepare(self, index: np.ndarray) -> dict[int, Row]:
        """Cache the items that are not cached yet, and return those without room, computed for this call."""
        missing = self._missing(index)
        if missing and not self._full:
            # Whole blocks are encoded, so that the tokens of an item do not depend on the batch that needs it first.
            for block in sorted({item // self._block for item in missing}):
                items = np.arange(block * self._block, min((block + 1) * self._block, len(self.items)))
                for batch in self._batches(self._missing(items)):
                    self._keep(self._compute(batch))
            missing = self._missing(index)
        return self._compute(missing)

    def _batches(self, items: list[int]) -> Iterator[list[int]]:
        """Yield the items of a block in batches; texts of similar length are together."""
        if self._block == _BATCH:
            yield items
        elif items:
            for places in batches_by_length(self.items.columns(np.array(items)), _BATCH):
                yield [items[place] for place in places]

    def _missing(self, index: np.ndarray) -> list[int]:
        missing: list[int] = index[~(self._is_cached[index] | self._is_rejected[index])].tolist()
        return missing

    def _compute(self, items: list[int]) -> dict[int, Row]:
        """Read and decode items, encode them by the frozen backbones, and record the reasons of rejected items."""
        if not items:
            return {}
        decoded, reasons = self.encoder.decode(self.items.columns(np.array(items)))
        broken = {item: reason or "no content" for item, row, reason in zip(items, decoded, reasons) if not row}
        self.rejected |= broken
        self._is_rejected[list(broken)] = True
        rows = {item: dict(row) for item, row in zip(items, decoded) if row}
        encoders = self.encoder.by_modality
        for name in self.frozen:
            present = [item for item, row in rows.items() if name in row]
            if present:
                with torch.no_grad():
                    (values, mask), pooled = self.encoder.modality_output(name, [rows[item][name] for item in present])
                for item, tokens, is_valid, vector in zip(present, values.cpu(), mask.cpu(), pooled.cpu()):
                    rows[item][name] = compact(tokens[is_valid])
                    if has_head(encoders[name]):
                        rows[item][_VECTOR.format(name)] = vector.clone()
        return rows

    def _keep(self, rows: dict[int, Row]) -> None:
        for item, row in rows.items():
            tokens = {name: row[name] for name in self.frozen if name in row}
            decoded = {name: row[name] for name in self.encoder.encoders if name in row and name not in tokens}
            vectors = {name: row[_VECTOR.format(name)] for name in tokens if name in self._vectors}
            others = (
                self._other_bytes + sum(map(_num_bytes, vectors.values())) + (_num_bytes(decoded) if decoded else 0)
            )
            size = others + sum(
                store.bytes_with(tokens[name]) if name in tokens else store.num_bytes
                for name, store in self._tokens.items()
            )
            if size > self._cache_bytes:
                self._full = True
                return
            if not all(self._tokens[name].add(item, values) for name, values in tokens.items()):
                self._full = True  # an item that counts as cached without its tokens would be encoded as if it had none
                return
            for name, vector in vectors.items():
                self._vectors[name][item] = vector
            if decoded:
                self._decoded[item] = decoded
            self._other_bytes = others
            self._is_cached[item] = True

    def _empty_store(self, name: str, cache_bytes: int) -> TokenStore:
        dim = self.encoder.by_modality[name].dim
        capacity = cache_bytes // (2 * dim)  # of float16
        if self.encoder.tokens_kept is not None:
            capacity = min(capacity, len(self.items) * self.encoder.tokens_kept)
        return TokenStore(len(self.items), dim, capacity)

    def _frozen_tokens(self, name: str, index: np.ndarray, computed: dict[int, Row]) -> Tokens:
        own = {item: row[name] for item, row in computed.items() if name in row}
        return self._tokens[name].gather(index, own)

    def _tokens_of(self, index: np.ndarray, computed: dict[int, Row]) -> dict[str, Tokens]:
        tokens: dict[str, Tokens] = {}
        device = self.encoder.device
        for name in self.encoder.encoders:
            if name in self.frozen:
                values, mask = self._frozen_tokens(name, index, computed)
                if mask.shape[1]:
                    tokens[name] = Tokens(values.to(device), mask.to(device))
                continue
            rows = [computed.get(item) or self._decoded.get(item, {}) for item in index.tolist()]
            places = [place for place, row in enumerate(rows) if name in row]
            if places:
                values, mask = self.encoder.modality_output(name, [rows[place][name] for place in places]).tokens
                tokens[name] = spread_tokens(Tokens(values, mask), places, len(index))
        return tokens


def _num_bytes(value: Any) -> int:
    """Return the approximate number of bytes of a decoded value."""
    if isinstance(value, dict):
        return 200 + sum(_num_bytes(part) for part in value.values())
    if isinstance(value, list | tuple):
        return 60 + sum(_num_bytes(part) for part in value)
    return 100 + (getattr(value, "nbytes", None) or (len(value) if isinstance(value, str | bytes) else 0))
