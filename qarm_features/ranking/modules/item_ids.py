"""An embedding of item IDs, the collaborative part of an item's representation.

In: item indexes (...), and the content of items without an ID embedding. Out: (..., D) float32.
"""

import torch
from torch import Tensor, nn

from qarm_features.ranking.modules.code_lookup import INITIAL_STD
from qarm_features.ranking.modules.ranking_input import ItemFeature, Items


class ItemIDs(ItemFeature, nn.Embedding):
    """Looks up one trainable vector per item ID; items without a vector get zeros, or the image of their content.

    Args:
        num_items: Size of the item vocabulary, at least 0; indexes above it have no vector.
        dim: D, at least 1.
        id_dropout: Share of the indexes that count as unknown in training, in [0, 1).
    """

    def __init__(self, num_items: int, dim: int, *, id_dropout: float) -> None:
        super().__init__(num_items + 1, dim)
        self.output_dim, self.id_dropout = dim, id_dropout
        nn.init.normal_(self.weight, std=INITIAL_STD)
        nn.init.zeros_(self.weight[0])  # an unknown item adds nothing

    def embed(self, items: Items) -> Tensor:
        """Embeds item IDs, (..., D) float32."""
        row = items.item_index.masked_fill(items.item_index >= self.num_embeddings, 0)
        if self.training and self.id_dropout:
            row = row.masked_fill(torch.rand(row.shape, device=row.device) < self.id_dropout, 0)
        ids = self(row)
        if items.content_as_id is None:
            return ids
        return torch.where((row == 0).unsqueeze(-1), items.content_as_id, ids)
