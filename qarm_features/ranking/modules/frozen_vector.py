"""A linear map of an item's frozen content vector: the part of an item's representation that every model can have.

In: frozen vectors of the distinct items of a batch. Out: (..., D) float32.
"""

from torch import Tensor, nn

from qarm_features.ranking.modules.ranking_input import ItemFeature, UniqueItems


class FrozenVector(ItemFeature, nn.Linear):
    """Maps an item's frozen vector, less the mean of all vectors; an item without a vector gets zeros.

    Args:
        vector_dim: D of the frozen vectors, at least 1.
        dim: Width of the output, at least 1.
    """

    needs = frozenset({"vectors"})
    is_content = True

    def __init__(self, vector_dim: int, dim: int) -> None:
        super().__init__(vector_dim, dim, bias=False)  # without a bias, an item without a vector gets zeros
        self.looked_up_dim, self.output_dim = vector_dim, dim

    def look_up(self, unique: UniqueItems) -> Tensor:
        """Returns the centered vectors of U distinct items, (U, vector_dim) float32."""
        vectors = unique.features.rows("vectors", unique.item_index).float()
        return (vectors - unique.vector_mean) * vectors.any(dim=1, keepdim=True)

    def embed_looked_up(self, looked_up: Tensor) -> Tensor:
        """Maps what was looked up, (..., D) float32."""
        return self(scaled_vectors(looked_up))


def scaled_vectors(vectors: Tensor) -> Tensor:
    """Scales unit vectors (..., D) to entries of about 1: entries of 1 / sqrt(D) would learn slowly."""
    return vectors * vectors.shape[-1] ** 0.5
