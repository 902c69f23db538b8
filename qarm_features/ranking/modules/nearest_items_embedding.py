"""Embeddings of VQ codes: the weighted mean of the embeddings of an item's nearest items.

In: indexes of the nearest items (..., k), 0 = unknown or missing, and their distances. Out: (..., D).

Source: QARM, arXiv 2411.11739, section 3.2, the VQ code.
"""

import math

import torch
from torch import Tensor, nn

from qarm_features.ranking.modules.code_lookup import INITIAL_STD
from qarm_features.ranking.modules.masked_softmax import masked_softmax
from qarm_features.ranking.modules.ranking_input import ItemFeature, UniqueItems

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 10.0


class NearestItemsEmbedding(nn.Module):
    """Averages the embeddings of an item's k nearest items; the nearer an item, the more it weighs.

    The weights are a softmax of -distance / temperature, or of similarity / temperature, over the known items. The
    temperature is trained and stays in [0.01, 10], by ``0.01 * (10 / 0.01) ** sigmoid(x)``. Far below this range one item
    would have all the weight; far above it all items would weigh the same.

    Args:
        num_items: Size of the item vocabulary, at least 0; item indexes are in [0, num_items], 0 = unknown item.
        embedding_dim: D, at least 1.
        item_ids: Item-ID table of num_items + 1 rows that is shared with the model; None for a table of its own.
        temperature: First temperature, inside (0.01, 10), in the unit of the distances. The default suits unit vectors.

    Raises:
        ValueError: If a number is outside its range, or item_ids is not (num_items + 1, D).

    Example:
        >>> embedding = NearestItemsEmbedding(100, 16)
        >>> embedding(torch.tensor([[4, 7, 0]]), distances=torch.tensor([[0.1, 0.2, 0.0]])).shape
        torch.Size([1, 16])

    Source: QARM, arXiv 2411.11739, section 3.2; the weights are this project's own.
    """

    def __init__(
        self,
        num_items: int,
        embedding_dim: int,
        *,
        item_ids: nn.Embedding | None = None,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if num_items < 0:
            raise ValueError(f"num_items is {num_items}, must be at least 0.")
        if embedding_dim < 1:
            raise ValueError(f"embedding_dim is {embedding_dim}, must be at least 1.")
        if not MIN_TEMPERATURE < temperature < MAX_TEMPERATURE:
            raise ValueError(f"temperature is {temperature}, must be inside ({MIN_TEMPERATURE}, {MAX_TEMPERATURE:g}).")
        if item_ids is None:
            item_ids = nn.Embedding(num_items + 1, embedding_dim)
            nn.init.normal_(item_ids.weight, std=INITIAL_STD)
        elif (shape := (item_ids.num_embeddings, item_ids.embedding_dim)) != (num_items + 1, embedding_dim):
            raise ValueError(
                f"item_ids is a table of shape {shape}, must be {(num_items + 1, embedding_dim)}. "
                "Give num_items without the unknown item, and the table's own width."
            )
        self.num_items, self.output_dim = num_items, embedding_dim
        self.table = item_ids
        share = math.log(temperature / MIN_TEMPERATURE) / math.log(MAX_TEMPERATURE / MIN_TEMPERATURE)
        self.temperature_logit = nn.Parameter(torch.tensor([math.log(share / (1 - share))]))  # (1,): FSDP takes no ()

    @property
    def temperature(self) -> Tensor:
        """The current temperature, (1,) float32 in [0.01, 10]."""
        share = self.temperature_logit.sigmoid()
        return MIN_TEMPERATURE * (MAX_TEMPERATURE / MIN_TEMPERATURE) ** share

    def forward(
        self, item_index: Tensor, *, distances: Tensor | None = None, similarities: Tensor | None = None
    ) -> Tensor:
        """Embeds items by their nearest items.

        Args:
            item_index: (..., k) int64 in [0, num_items], 0 = unknown or missing, in any order.
            distances: (..., k) float32, small = near; finite where item_index is above 0.
            similarities: (..., k) float32, large = near, instead of distances. If both are None, all items weigh the same.

        Returns:
            (..., D) float32; exactly 0 where no item is known. Padding of k with 0 does not change it.

        Raises:
            ValueError: If both distances and similarities are given, if one has another shape than item_index or, on
                a CPU, if an index is outside [0, num_items]. On a GPU the table itself fails on such an index.
        """
        if distances is not None and similarities is not None:
            raise ValueError("Both distances and similarities are given. Leave one of them out.")
        for name, values in {"distances": distances, "similarities": similarities}.items():
            if values is not None and values.shape != item_index.shape:
                raise ValueError(
                    f"{name} have shape {tuple(values.shape)}, must be item_index's {tuple(item_index.shape)}. "
                    "Give one for each nearest item."
                )
        if item_index.device.type == "cpu" and not torch.compiler.is_compiling():
            self._check_range(item_index)
        if distances is not None:
            similarities = -distances
        elif similarities is None:
            similarities = torch.zeros(item_index.shape, device=item_index.device)
        weight = self._weights(item_index != 0, similarities.float())
        embeddings = self.table(item_index)  # (..., k, D)
        return torch.einsum("...k,...kd->...d", weight.to(embeddings.dtype), embeddings)

    def _weights(self, known: Tensor, similarities: Tensor) -> Tensor:
        """Returns (..., k) float32 weights that add up to 1 over the known items, or are all 0."""
        # The mask comes before the division: a NaN would otherwise reach the gradient of the temperature.
        score = similarities.masked_fill(~known, 0.0) / self.temperature
        return masked_softmax(score, known, dim=-1)

    def _check_range(self, item_index: Tensor) -> None:
        if item_index.numel() == 0:
            return
        low, high = (int(bound) for bound in item_index.aminmax())
        if low < 0 or high > self.num_items:
            raise ValueError(
                f"item_index holds {low if low < 0 else high}, must be in [0, {self.num_items}]. "
                "Use the item vocabulary that the table was built for. 0 stands for an unknown item."
            )


class NearestItems(ItemFeature, NearestItemsEmbedding):
    """Embeds an item by its VQ code, which is looked up once per distinct item of a batch."""

    needs = frozenset({"nearest_items"})

    def __init__(self, num_items: int, embedding_dim: int, *, item_ids: nn.Embedding | None = None) -> None:
        super().__init__(num_items, embedding_dim, item_ids=item_ids)
        self.looked_up_dim = self.output_dim

    def look_up(self, unique: UniqueItems) -> Tensor:
        """Embeds the VQ codes of U distinct items, (U, D) float32."""
        features = unique.features
        nearest = features.rows("nearest_items", unique.item_index).long()
        nearest = nearest.masked_fill(nearest > self.num_items, 0)
        distances = None
        if features.nearest_distances is not None:
            distances = features.rows("nearest_distances", unique.item_index).float()
        return self(nearest, distances=distances)

    def embed_looked_up(self, looked_up: Tensor) -> Tensor:
        """Returns what was looked up, (..., D) float32."""
        return looked_up
