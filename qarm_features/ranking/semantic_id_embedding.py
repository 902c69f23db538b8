"""Semantic IDs in, trainable embeddings out.

In: codes (..., L) int64, -1 where the item has none. Out: (..., L*D) or (..., D) float32.
This is QARM's remedy for *unlearning*: the codes are fixed, their embeddings follow the ranking loss.

Source: QARM, arXiv 2411.11739, section 3.3.
"""

from typing import Literal

import torch
from torch import Tensor, nn

INITIAL_STD = 0.05  # small, so that an untrained row hardly moves the logit
UNSET_VERSION = -1


class SemanticIDEmbedding(nn.Module):
    """Looks up one trainable vector per level and code; a missing code (-1) has a row of its own per level.

    The L tables are stacked into one of L*(K+1) rows, so that a lookup is one gather. Row ``l*(K+1)`` is level
    ``l``'s row for missing items, row ``l*(K+1) + 1 + c`` is its code ``c``.

    Args:
        num_levels: L, at least 1.
        codebook_size: K, at least 1.
        embedding_dim: D, the width of one code's vector, at least 1.
        codebook_version: the codebook the codes come from, from 0; None if unknown. It is stored with the weights.
        pooling: how the L vectors of an item are joined: "concat" keeps them side by side (..., L*D), "sum" adds
            them (..., D).

    Raises:
        ValueError: if a size is below 1 or pooling is neither "concat" nor "sum".

    Source: QARM, arXiv 2411.11739, section 3.3.
    """

    def __init__(
        self,
        num_levels: int,
        codebook_size: int,
        embedding_dim: int,
        *,
        codebook_version: int | None = None,
        pooling: Literal["concat", "sum"] = "concat",
    ) -> None:
        super().__init__()
        sizes = {"num_levels": num_levels, "codebook_size": codebook_size, "embedding_dim": embedding_dim}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, must be at least 1.")
        if pooling not in ("concat", "sum"):
            raise ValueError(f'pooling is "{pooling}", must be "concat" or "sum".')
        self.num_levels, self.codebook_size, self.pooling = num_levels, codebook_size, pooling
        self.output_dim = embedding_dim * (num_levels if pooling == "concat" else 1)
        self.table = nn.Embedding(num_levels * (codebook_size + 1), embedding_dim)
        nn.init.normal_(self.table.weight, std=INITIAL_STD)
        version = UNSET_VERSION if codebook_version is None else codebook_version
        self.register_buffer("codebook_version", torch.tensor(version, dtype=torch.int64))
        missing_rows = torch.arange(num_levels) * (codebook_size + 1)
        self.register_buffer("missing_rows", missing_rows, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Embeds codes.

        Args:
            codes: (..., L) int64, each in [-1, K); -1 = missing.

        Returns:
            (..., L*D) float32 with pooling "concat", (..., D) with "sum".

        Raises:
            ValueError: if the last dimension is not L or, on a CPU, if a code is outside [-1, K). On a GPU such a
                code fails as an out-of-range index of the table, because a check here would wait for the device.
        """
        if codes.shape[-1] != self.num_levels:
            raise ValueError(
                f"codes have {codes.shape[-1]} levels, must have num_levels = {self.num_levels}. "
                "Build the table with the codebooks' number of levels."
            )
        if codes.device.type == "cpu" and not torch.compiler.is_compiling():
            self._check_range(codes)
        embeddings = self.table(self.rows(codes))  # (..., L, D)
        return embeddings.flatten(-2) if self.pooling == "concat" else embeddings.sum(-2)

    def rows(self, codes: Tensor) -> Tensor:
        """Returns the table row of each code, (..., L) int64; L*(K+1), which is no row, for a code outside [-1, K).

        Without that, a code K of one level would silently read the next level's row for missing items.
        """
        inside = (codes >= -1) & (codes < self.codebook_size)
        return torch.where(inside, codes + 1 + self.missing_rows, self.table.num_embeddings)

    def check_codebook_version(self, version: int) -> None:
        """Refuses codes of another codebook than the one this table was trained on.

        Args:
            version: the codebook version of a batch, from 0.

        Raises:
            ValueError: if it is not this table's version, or this table has none.
        """
        own = int(self.codebook_version)
        if own == UNSET_VERSION:
            raise ValueError(
                f"codebook_version of this table is not set, must be {version} to read these codes. "
                f"Build it with SemanticIDEmbedding(..., codebook_version={version})."
            )
        if version != own:
            raise ValueError(
                f"Codes are of codebook version {version}, this table was trained on version {own}. "
                f"Retrain the model on version {version} or read the pinned view item_semantic_id__cb{own}."
            )

    def _check_range(self, codes: Tensor) -> None:
        if codes.numel() == 0:
            return
        low, high = (int(bound) for bound in codes.aminmax())
        if low < -1 or high >= self.codebook_size:
            wrong = low if low < -1 else high
            raise ValueError(
                f"codes hold {wrong}, must be in [-1, {self.codebook_size}). "
                "Use the codebook_size the codes were made with; -1 stands for a missing item."
            )
