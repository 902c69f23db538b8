"""What an item is to a ranking model: its ID, codes, VQ code and content, side by side.

In: item indexes and codes of a batch. Out: (..., D) float32. What depends on the item alone (VQ code, content) is
computed once per unique item of the batch, however often it occurs, and scattered back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.ranking.data.item_features import ItemFeatures
from qarm_features.ranking.model.ranking_config import RankingConfig
from qarm_features.ranking.modules.code_lookup import INITIAL_STD
from qarm_features.ranking.modules.content_fusion import ContentFusion
from qarm_features.ranking.modules.nearest_items_embedding import NearestItemsEmbedding
from qarm_features.ranking.modules.prefix_embedding import PrefixEmbedding
from qarm_features.ranking.modules.semantic_id_embedding import SemanticIDEmbedding

_TABLE_OF = 64  # unique items per behavior of a row, up to which all of them are compared with each target


@dataclass
class LookedUp:
    """What is known of items beside IDs and codes; widths are 0 for what the model does not use.

    Args:
        parts: (U, item_dim + D) float32 of unique items: the VQ code's embedding, then the content embedding, zeros
            where an item has none.
        at: (...) int64 rows of parts.
        nearest_dim: width of the VQ code's embedding.
    """

    parts: Tensor
    at: Tensor
    nearest_dim: int

    @property
    def nearest(self) -> Tensor:
        """The VQ code's embedding, (..., item_dim) float32."""
        return functional.embedding(self.at, self.parts[:, : self.nearest_dim])

    @cached_property
    def content(self) -> Tensor:
        """The content embedding, (..., D) float32."""
        return functional.embedding(self.at, self.unique_content)

    @property
    def unique_content(self) -> Tensor:
        """The content embedding of unique items, (U, D) float32."""
        return self.parts[:, self.nearest_dim :]


def content_cosines(target: LookedUp, past: LookedUp) -> tuple[Tensor, Tensor]:
    """Compares targets (B,) with their past (B or 1, T), both looked up together.

    Returns:
        Cosines of their content (B, T) float32, and (B, T) bool, True where both have content.
    """
    unit = functional.normalize(target.unique_content, dim=1)
    has = target.unique_content.detach().any(dim=1)
    at = past.at.expand(len(target.at), -1)
    if len(unit) <= _TABLE_OF * at.shape[1]:  # one matrix product beats B x T gathered vectors
        cosine = (unit[target.at] @ unit.T).gather(1, at)
    else:
        cosine = torch.einsum("bd,btd->bt", unit[target.at], functional.embedding(at, unit))
    return cosine, has[at] & has[target.at].unsqueeze(1)


class ItemRepresentation(nn.Module):
    """Represents items by what the config switches on.

    Args:
        config: of the ranking model.
    """

    def __init__(self, config: RankingConfig) -> None:
        super().__init__()
        self.config, dim = config, 0
        self.item_ids = self.semantic_ids = self.prefixes = self.nearest_items = self.vector = self.fusion = None
        if config.use_item_ids:
            self.item_ids = nn.Embedding(config.num_items + 1, config.item_dim)
            nn.init.normal_(self.item_ids.weight, std=INITIAL_STD)
            nn.init.zeros_(self.item_ids.weight[0])  # an item never seen says nothing
            dim += config.item_dim
        codes = (config.num_levels, config.codebook_size)
        if config.use_semantic_ids:
            self.semantic_ids = SemanticIDEmbedding(*codes, config.code_dim, codebook_version=config.codebook_version)
            dim += self.semantic_ids.output_dim
        if config.use_prefixes:
            self.prefixes = PrefixEmbedding(
                *codes, config.prefix_dim, num_rows=config.prefix_rows, codebook_version=config.codebook_version
            )
            dim += self.prefixes.output_dim
        if config.use_nearest_items:
            shared = self.item_ids if config.share_nearest_items else None
            self.nearest_items = NearestItemsEmbedding(config.num_items, config.item_dim, item_ids=shared)
            dim += self.nearest_items.output_dim
        self.content_width = 0  # of LookedUp.content
        self._add_content(config)
        self.output_dim = (
            dim
            + (config.content_dim if config.use_frozen_vector else 0)
            + (config.content_dim if config.use_fusion else 0)
        )

    def _add_content(self, config: RankingConfig) -> None:
        if config.use_frozen_vector:
            self.vector = nn.Linear(config.vector_dim, config.content_dim, bias=False)  # no bias: no vector, no say
            self.register_buffer("vector_mean", torch.zeros(config.vector_dim))
            self.content_width += config.vector_dim
        if config.use_fusion:
            self.fusion = ContentFusion(
                config.token_dims,
                dim=config.content_dim,
                num_queries=config.num_queries,
                num_layers=config.fusion_layers,
                num_heads=config.num_heads,
            )
            self.content_width += config.content_dim
        if config.has_content_id_map:
            self.content_to_id = nn.Linear(self.content_width, config.item_dim, bias=False)
            self.id_norm = nn.Parameter(torch.tensor([INITIAL_STD * config.item_dim**0.5]))

    def center_vectors(self, features: ItemFeatures) -> None:
        """Takes the mean of the frozen vectors, which says nothing of an item but fills most of a crowded cone.

        A mean that is there already stays: it belongs to the weights that were trained with it.
        """
        if self.vector is not None and not bool(self.vector_mean.any()):
            self.vector_mean.copy_(features.mean_vector())

    def look_up(self, indexes: Sequence[Tensor], features: ItemFeatures | None) -> list[LookedUp]:
        """Computes what depends on the item alone, once per unique item of all indexes.

        Args:
            indexes: int64 tensors of any shapes (...).
            features: what is known of the items; None for a model that needs nothing.

        Returns:
            What is known, for each of indexes.

        Raises:
            ValueError: if features is None and the model needs them.
        """
        if self.nearest_items is None and not self.config.has_content:
            nothing = torch.empty(1, 0, device=indexes[0].device)
            return [LookedUp(nothing, torch.zeros_like(index), 0) for index in indexes]
        if features is None:
            raise ValueError("item_features is None, must hold what the model's switches read. Call set_item_features.")
        flat = torch.cat([index.flatten() for index in indexes])
        unique, inverse = torch.unique(flat, return_inverse=True)
        nearest = unique.new_empty(len(unique), 0, dtype=torch.float32)
        if self.nearest_items is not None:
            nearest = self._nearest(unique, features)
        parts = torch.cat([nearest, self._content(unique, features)], dim=1)
        ends = torch.tensor([index.numel() for index in indexes]).cumsum(0)[:-1].tolist()
        at = (rows.unflatten(0, index.shape) for index, rows in zip(indexes, inverse.tensor_split(ends)))
        return [LookedUp(parts, rows, nearest.shape[1]) for rows in at]

    def forward(self, index: Tensor, codes: Tensor, known: LookedUp) -> Tensor:
        """Represents items.

        Args:
            index: (...) int64, at least 0; above num_items = without an ID embedding.
            codes: (..., L) int64 in [-1, K).
            known: of the same items, by ``look_up``.

        Returns:
            (..., D) float32.
        """
        parts = []
        if self.item_ids is not None:
            parts.append(self._ids(index, known.content))
        if self.semantic_ids is not None:
            parts.append(self.semantic_ids(codes))
        if self.prefixes is not None:
            parts.append(self.prefixes(codes))
        if self.nearest_items is not None:
            parts.append(known.nearest)
        if self.vector is not None:
            # Unit vectors of D numbers have entries of 1 / sqrt(D), which would learn slowly.
            dim = self.config.vector_dim
            parts.append(self.vector(known.content[..., :dim] * dim**0.5))
        if self.fusion is not None:
            parts.append(known.content[..., -self.config.content_dim :])
        return torch.cat(parts, dim=-1)

    def content_as_id(self, content: Tensor) -> Tensor:
        """Maps content (..., D) into the space of item IDs, (..., item_dim); zeros stay zeros."""
        return self.content_to_id(content)

    def _ids(self, index: Tensor, content: Tensor) -> Tensor:
        row = index.masked_fill(index > self.config.num_items, 0)
        if self.training and self.config.id_dropout:
            row = row.masked_fill(torch.rand(row.shape, device=row.device) < self.config.id_dropout, 0)
        ids = self.item_ids(row)
        if not self.config.new_items_from_content:
            return ids
        stand_in = functional.normalize(self.content_as_id(content), dim=-1) * self.id_norm
        return torch.where((row == 0).unsqueeze(-1), stand_in, ids)

    def _nearest(self, unique: Tensor, features: ItemFeatures) -> Tensor:
        nearest = features.rows("nearest_items", unique).long()
        nearest = nearest.masked_fill(nearest > self.config.num_items, 0)
        distances = None
        if features.nearest_distances is not None:
            distances = features.rows("nearest_distances", unique).float()
        return self.nearest_items(nearest, distances=distances)

    def _content(self, unique: Tensor, features: ItemFeatures) -> Tensor:
        parts = [unique.new_empty(len(unique), 0, dtype=torch.float32)]
        if self.vector is not None:
            vectors = features.rows("vectors", unique).float()
            parts.append((vectors - self.vector_mean) * vectors.any(dim=1, keepdim=True))
        if self.fusion is not None and features.fused is not None and not self.training:
            parts.append(features.rows("fused", unique))
        elif self.fusion is not None:
            index = unique.cpu().numpy()
            rows = features.content_rows[index.clip(max=features.num_items)]
            rows[(index == 0) | (index > features.num_items)] = -1
            parts.append(self.fusion(features.content, rows))
        return torch.cat(parts, dim=1)
