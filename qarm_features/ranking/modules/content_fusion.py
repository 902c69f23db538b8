"""Content embeddings of items, which a Fusion-Q-Former computes and the ranking loss trains.

In: rows (U,) of a store of frozen content tokens. Out: (U, D) float32, zeros for an item without content.

Source: EM3, arXiv 2404.06078, Fusion-Q-Former.
"""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.fusion.q_former import FusionQFormer
from qarm_features.ranking.data.item_features import ContentStore
from qarm_features.ranking.modules.frozen_tokens import project_frozen_tokens
from qarm_features.ranking.modules.ranking_input import ItemFeature, UniqueItems


class ContentFusion(ItemFeature):
    """Encodes distinct items by a Fusion-Q-Former over their frozen content tokens.

    Args:
        token_dims: D of the content tokens by modality.
        dim: D of the output, a multiple of num_heads.
        num_queries: Q, at least 1.
        num_layers: Number of layers of the Fusion-Q-Former, at least 1.
        num_heads: H, at least 1.
        flatten_queries: True to read the query tokens side by side instead of their mean.

    Raises:
        ValueError: If token_dims is empty or a number is out of its range.

    Source: EM3, arXiv 2404.06078.
    """

    needs = frozenset({"content"})
    is_content = True

    def __init__(
        self,
        token_dims: Mapping[str, int],
        *,
        dim: int,
        num_queries: int,
        num_layers: int,
        num_heads: int,
        flatten_queries: bool = False,
    ) -> None:
        super().__init__()
        self.output_dim = self.looked_up_dim = dim
        self.q_former = FusionQFormer(
            token_dims,
            num_queries=num_queries,
            dim=dim,
            num_layers=num_layers,
            num_heads=num_heads,
            flatten_queries=flatten_queries,
        )

    def forward(self, store: ContentStore, rows: np.ndarray) -> Tensor:
        """Encodes U items, each distinct row once: items with the same content have the same row.

        Args:
            store: Store of the content tokens.
            rows: (U,) int64 rows of the store; -1 for an item without content.

        Returns:
            (U, D) float32 of unit L2 norm; exactly 0 for an item without tokens.
        """
        known = np.flatnonzero(rows >= 0)
        if not len(known):
            return torch.zeros(len(rows), self.output_dim, device=self.q_former.queries.device)
        distinct, place = np.unique(rows[known], return_inverse=True)  # in the order of the store
        fused = self._fuse(store, distinct)
        if len(distinct) < len(rows) or (np.diff(place) != 1).any():
            taken = np.full(len(rows), len(distinct))
            taken[known] = place
            nothing = fused.new_zeros(1, self.output_dim)
            fused = functional.embedding(torch.from_numpy(taken).to(fused.device), torch.cat([fused, nothing]))
        return fused

    def _fuse(self, store: ContentStore, rows: np.ndarray) -> Tensor:
        """Encodes distinct rows (U,) of the store, ascending, into (U, D); zeros for a row without tokens."""
        projections = cast(Mapping[str, nn.Linear], self.q_former.projections)
        tokens = project_frozen_tokens(store, rows, projections)
        has_token = torch.stack([mask.any(1) for mask in tokens.masks.values()]).any(0)
        if bool(has_token.all()):
            return self.q_former.fuse(*tokens).pooled
        fused = torch.zeros(len(rows), self.output_dim, device=has_token.device)
        if not bool(has_token.any()):
            return fused
        return fused.index_copy(0, has_token.nonzero().squeeze(1), self.q_former.fuse(*tokens.of(has_token)).pooled)

    def look_up(self, unique: UniqueItems) -> Tensor:
        """Fuses the content of U distinct items, (U, D) float32; in eval mode it reads content that was fused before."""
        features = unique.features
        if features.fused is not None and not self.training:
            return features.rows("fused", unique.item_index)
        content, content_rows = features.content_and_rows()
        index = unique.item_index.cpu().numpy()
        rows = content_rows[index.clip(max=features.num_items)]
        rows[(index == 0) | (index > features.num_items)] = -1
        return self(content, rows)

    def embed_looked_up(self, looked_up: Tensor) -> Tensor:
        """Returns what was looked up, (..., D) float32."""
        return looked_up
