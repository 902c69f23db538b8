"""The representation of an item: its item features side by side.

In: item indexes and codes of a batch. Out: (..., D) float32. What depends on the item alone (VQ code, content) is
computed once per distinct item of the batch, however often it occurs, and scattered back.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.ranking.data.item_features import ItemFeatures
from qarm_features.ranking.model.ranking_config import RankingConfig
from qarm_features.ranking.modules.code_lookup import INITIAL_STD
from qarm_features.ranking.modules.content_fusion import ContentFusion
from qarm_features.ranking.modules.frozen_vector import FrozenVector
from qarm_features.ranking.modules.item_ids import ItemIDs
from qarm_features.ranking.modules.looked_up import LookedUp, distinct, side_by_side
from qarm_features.ranking.modules.nearest_items_embedding import NearestItems
from qarm_features.ranking.modules.prefix_embedding import PrefixEmbedding
from qarm_features.ranking.modules.ranking_input import ItemFeature, Items, UniqueItems
from qarm_features.ranking.modules.semantic_id_embedding import SemanticIDEmbedding

ITEM_FEATURES = ("item_ids", "semantic_ids", "prefixes", "nearest_items", "vector", "fusion")


class ItemRepresentation(nn.Module):
    """Represents items by their item features, and holds the weights that several of these share.

    Args:
        config: Configuration of the ranking model.
        features: Item features by the name under which their weights are saved, in the order of the representation.
    """

    item_ids: ItemIDs | None
    semantic_ids: SemanticIDEmbedding | None
    prefixes: PrefixEmbedding | None
    nearest_items: NearestItems | None
    vector: FrozenVector | None
    fusion: ContentFusion | None
    vector_mean: Tensor  # (vector_dim,) float32, only with ``vector``

    def __init__(self, config: RankingConfig, features: Mapping[str, ItemFeature]) -> None:
        super().__init__()
        self.names = tuple(features)
        for name, feature in features.items():
            self.add_module(name, feature)
        for name in ITEM_FEATURES:
            if name not in features:
                setattr(self, name, None)
        self.output_dim = sum(feature.output_dim for feature in features.values())
        self.looking_up = tuple(name for name, feature in features.items() if feature.looked_up_dim)
        self.content_names = tuple(name for name in self.looking_up if features[name].is_content)
        self.content_dim = sum(features[name].looked_up_dim for name in self.content_names)
        if self.vector is not None:
            self.register_buffer("vector_mean", torch.zeros(self.vector.looked_up_dim))
        if config.has_content_id_map:
            self.content_to_id = nn.Linear(self.content_dim, config.item_dim, bias=False)
            self.id_norm = nn.Parameter(torch.tensor([INITIAL_STD * config.item_dim**0.5]))
        self.new_items_from_content = config.new_items_from_content

    @property
    def features(self) -> dict[str, ItemFeature]:
        """The item features by name, in the order of the representation."""
        features = {}
        for name in self.names:
            feature = self._modules[name]  # looked up anew: a caller may have put another table in its place
            assert isinstance(feature, ItemFeature)
            features[name] = feature
        return features

    def center_vectors(self, features: ItemFeatures) -> None:
        """Takes the mean of the frozen vectors, which is the same for all items and often the largest part of a vector.

        A mean that is there already stays: it belongs to the weights that were trained with it.

        Args:
            features: Features of the items, with the frozen vectors.
        """
        if self.vector is not None and not bool(self.vector_mean.any()):
            self.vector_mean.copy_(features.mean_vector())

    def look_up(self, indexes: Sequence[Tensor], features: ItemFeatures | None) -> list[LookedUp]:
        """Computes what depends on the item alone, once per distinct item of all indexes.

        Args:
            indexes: int64 tensors of any shapes (...).
            features: Features of the items; None for a model that looks nothing up.

        Returns:
            What was looked up, for each of ``indexes``.

        Raises:
            ValueError: If features is None and the model looks something up.
        """
        if not self.looking_up:
            return [LookedUp({}, torch.zeros_like(index)) for index in indexes]
        if features is None:
            raise ValueError("The model reads item features, but has none. Call RankingModel.set_item_features.")
        index, inverse = distinct(torch.cat([index.flatten() for index in indexes]))
        mean = torch.empty(0) if self.vector is None else self.vector_mean
        unique, feature = UniqueItems(index, features, mean), self.features
        parts = {name: feature[name].look_up(unique) for name in self.looking_up}
        places = inverse.split([index.numel() for index in indexes])
        made: dict[str, Tensor] = {}
        return [
            LookedUp(parts, rows.unflatten(0, index.shape), self.content_names, made)
            for index, rows in zip(indexes, places)
        ]

    def forward(self, index: Tensor, codes: Tensor, looked_up: LookedUp) -> Tensor:
        """Represents items.

        Args:
            index: (...) int64, at least 0; above num_items = without an ID embedding.
            codes: (..., L) int64 in [-1, K).
            looked_up: What ``look_up`` returned for the same items.

        Returns:
            (..., D) float32.
        """
        content_as_id = None
        if self.new_items_from_content:
            content_as_id = looked_up.spread(looked_up.once("content as ID", lambda: self._as_known_id(looked_up)))
        embedded = self._embedded_once(looked_up)
        spread = looked_up.spread(side_by_side(list(embedded.values()), rows=looked_up.rows)) if embedded else None
        nothing, parts, start = index.new_empty(0, dtype=torch.float32), [], 0
        for name, feature in self.features.items():
            if spread is not None and name in embedded:
                width = embedded[name].shape[1]
                parts.append(spread[..., start : start + width])
                start += width
                continue
            own = looked_up.of(name) if name in looked_up.parts else nothing
            parts.append(feature.embed(Items(index, codes, own, content_as_id)))
        return torch.cat(parts, dim=-1)

    def _embedded_once(self, looked_up: LookedUp) -> dict[str, Tensor]:
        """Returns the embeddings (U, D) of the distinct items by those item features that read nothing of the places."""
        embedded: dict[str, Tensor] = {}
        for name, feature in self.features.items():
            if name in looked_up.parts and type(feature).embed_looked_up is not ItemFeature.embed_looked_up:
                own, unique = f"embedding of {name}", looked_up.parts[name]
                if own not in looked_up.made:
                    made = feature.embed_looked_up(unique)
                    assert made is not None, f"{type(feature).__name__} embeds what it looked up"
                    looked_up.made[own] = made
                embedded[name] = looked_up.made[own]
        return embedded

    def _as_known_id(self, looked_up: LookedUp) -> Tensor:
        """Returns the content of the distinct items as long as a new embedding of an item ID, (U, item_dim)."""
        return functional.normalize(self.content_as_id(looked_up.unique_content), dim=-1) * self.id_norm

    def content_as_id(self, content: Tensor) -> Tensor:
        """Maps content (..., D) into the space of item IDs, (..., item_dim); zeros stay zeros."""
        return self.content_to_id(content)
