"""Trainable embeddings of semantic IDs.

In: codes (..., L) int64, -1 where the item has none, or bags of items. Out: (..., L*D) or (..., D) float32.
This is QARM's answer to *unlearning*: the codes stay as they are, and the ranking loss trains their embeddings.

Source: QARM, arXiv 2411.11739, section 3.3.
"""

from typing import Literal

import torch
from torch import Tensor

from qarm_features.ranking.modules.code_lookup import CodeLookup


class SemanticIDEmbedding(CodeLookup):
    """Looks up one trainable vector per level and code; a missing code (-1) has a row of its own per level.

    The L tables are stacked into one of L*(K+1) rows, so that a look-up is one gather. Row ``l*(K+1)`` is level
    ``l``'s row for missing items, row ``l*(K+1) + 1 + c`` is its code ``c``.

    Args:
        num_levels: L, at least 1.
        codebook_size: K, at least 1.
        embedding_dim: D, the width of one code's vector, at least 1.
        codebook_version: Version of the codebooks, from 0; None if unknown. It is stored with the weights.
        pooling: "concat" puts the L vectors of an item side by side (..., L*D); "sum" adds them (..., D).

    Raises:
        ValueError: If a size is below 1 or pooling is neither "concat" nor "sum".

    Example:
        >>> embedding = SemanticIDEmbedding(num_levels=3, codebook_size=4, embedding_dim=8, codebook_version=0)
        >>> embedding(torch.tensor([[0, 1, 2], [-1, -1, -1]])).shape
        torch.Size([2, 24])

    Source: QARM, arXiv 2411.11739, section 3.3.
    """

    missing_rows: Tensor  # (L,) int64

    def __init__(
        self,
        num_levels: int,
        codebook_size: int,
        embedding_dim: int,
        *,
        codebook_version: int | None = None,
        pooling: Literal["concat", "sum"] = "concat",
    ) -> None:
        sizes = {"num_levels": num_levels, "codebook_size": codebook_size, "embedding_dim": embedding_dim}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, must be at least 1.")
        super().__init__(
            num_levels,
            codebook_size,
            embedding_dim,
            num_vectors=num_levels,
            num_rows=num_levels * (codebook_size + 1),
            codebook_version=codebook_version,
            pooling=pooling,
        )
        missing_rows = torch.arange(num_levels) * (codebook_size + 1)
        self.register_buffer("missing_rows", missing_rows, persistent=False)

    def rows(self, codes: Tensor) -> Tensor:
        """Returns the table row of each code, (..., L) int64; L*(K+1), which is no row, for a code outside [-1, K).

        Without that, a code K of one level would silently read the next level's row for missing items.
        """
        inside = (codes >= -1) & (codes < self.codebook_size)
        return torch.where(inside, codes + 1 + self.missing_rows, self.table.num_embeddings)
