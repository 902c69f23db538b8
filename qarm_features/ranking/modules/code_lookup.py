"""Trainable vectors of codes: the part that ``SemanticIDEmbedding`` and ``PrefixEmbedding`` have in common.

In: codes (..., L) int64, -1 where the item has none, or bags of items. Out: (..., P*D) or (..., D) float32.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.ranking.modules.codebook_version import CodebookVersioned
from qarm_features.ranking.modules.ranking_input import ItemFeature, Items

INITIAL_STD = 0.05  # small, so that an untrained row hardly moves the logit


class CodeLookup(CodebookVersioned, ItemFeature):
    """Reads P rows of one table for the L codes of an item and joins them. A subclass chooses the rows.

    Args:
        num_levels: L.
        codebook_size: K.
        embedding_dim: D, the width of one row.
        num_vectors: P, the number of rows that an item reads.
        num_rows: Number of rows of the table.
        codebook_version: Version of the codebooks, from 0; None if unknown. It is stored with the weights.
        pooling: "concat" puts the P vectors of an item side by side (..., P*D); "sum" adds them (..., D).

    Raises:
        ValueError: If pooling is neither "concat" nor "sum".
    """

    def __init__(
        self,
        num_levels: int,
        codebook_size: int,
        embedding_dim: int,
        *,
        num_vectors: int,
        num_rows: int,
        codebook_version: int | None,
        pooling: Literal["concat", "sum"],
    ) -> None:
        super().__init__(codebook_version)
        if pooling not in ("concat", "sum"):
            raise ValueError(f'pooling is "{pooling}", must be "concat" or "sum".')
        self.num_levels, self.codebook_size, self.pooling = num_levels, codebook_size, pooling
        self.output_dim = embedding_dim * (num_vectors if pooling == "concat" else 1)
        self.table = nn.Embedding(num_rows, embedding_dim)
        nn.init.normal_(self.table.weight, std=INITIAL_STD)

    needs = frozenset({"item_codes"})

    def rows(self, codes: Tensor) -> Tensor:
        """Returns the P table rows of each item.

        Args:
            codes: (..., L) int64.

        Returns:
            (..., P) int64. A code outside [-1, K) gives a number that is not a row of the table.
        """
        raise NotImplementedError

    def forward(self, codes: Tensor) -> Tensor:
        """Embeds codes.

        Args:
            codes: (..., L) int64, each in [-1, K); -1 = missing.

        Returns:
            (..., P*D) float32 with pooling "concat", (..., D) with "sum".

        Raises:
            ValueError: If the last dimension is not L or, on a CPU, if a code is outside [-1, K). On a GPU the table
                itself fails on such a code, because a check would have to wait for the device.
        """
        _check_codes(codes, num_levels=self.num_levels, codebook_size=self.codebook_size)
        embeddings = self.table(self.rows(codes))  # (..., P, D)
        return embeddings.flatten(-2) if self.pooling == "concat" else embeddings.sum(-2)

    def embed(self, items: Items) -> Tensor:
        """Embeds the codes of items, which makes the table an item feature of ``RankingModel``."""
        return self(items.codes)

    def forward_bags(self, values: Tensor, offsets: Tensor, *, mode: Literal["mean", "sum"] = "mean") -> Tensor:
        """Embeds bags of items as ``torch.nn.EmbeddingBag`` does, without a vector per item in memory.

        A missing item in a bag counts as an item and reads the rows for missing items. With a TorchRec ``JaggedTensor``, pass
        ``offsets()[:-1]``.

        Args:
            values: (N, L) int64 codes of the items of all bags, one bag after the other, each in [-1, K).
            offsets: (B,) int64 start of each bag in values, ascending from 0.
            mode: "mean" averages the items of a bag, "sum" adds them.

        Returns:
            (B, P*D) float32 with pooling "concat", (B, D) with "sum"; exactly 0 for an empty bag.

        Raises:
            ValueError: If mode is neither "mean" nor "sum", if values are not (N, L) or, on a CPU, if a code is outside
                [-1, K) or offsets do not ascend from 0 to at most N.
        """
        _check_bags(values, offsets, mode=mode)
        _check_codes(values, num_levels=self.num_levels, codebook_size=self.codebook_size)
        return _embed_bags(self.table.weight, self.rows(values), offsets, mode=mode, pooling=self.pooling)


def _check_codes(codes: Tensor, *, num_levels: int, codebook_size: int) -> None:
    """Refuses codes (..., L) of another number of levels and, on a CPU, codes outside [-1, K)."""
    if codes.shape[-1] != num_levels:
        raise ValueError(
            f"codes have {codes.shape[-1]} levels, must have num_levels = {num_levels}. "
            "Build the table with the codebooks' number of levels."
        )
    if codes.device.type != "cpu" or torch.compiler.is_compiling() or codes.numel() == 0:
        return
    low, high = (int(bound) for bound in codes.aminmax())
    if low < -1 or high >= codebook_size:
        wrong = low if low < -1 else high
        raise ValueError(
            f"codes hold {wrong}, must be in [-1, {codebook_size}). "
            "Use the codebook_size of the codebooks that the codes come from. -1 stands for a missing item."
        )


def _check_bags(values: Tensor, offsets: Tensor, *, mode: str) -> None:
    """Refuses an unknown mode, wrong shapes and, on a CPU, offsets that do not ascend from 0 to at most N."""
    if mode not in ("mean", "sum"):
        raise ValueError(f'mode is "{mode}", must be "mean" or "sum".')
    if values.ndim != 2:
        raise ValueError(f"values have shape {tuple(values.shape)}, must be (N, L). Give one row of codes per item.")
    if offsets.ndim != 1:
        raise ValueError(f"offsets have shape {tuple(offsets.shape)}, must be (B,). Give the start of each bag.")
    if offsets.device.type != "cpu" or torch.compiler.is_compiling() or offsets.numel() == 0:
        return
    if int(offsets[0]) != 0 or int(offsets[-1]) > len(values) or bool((offsets.diff() < 0).any()):
        raise ValueError(
            f"offsets run from {int(offsets[0])} to {int(offsets[-1])}, must ascend from 0 to at most N = {len(values)}. "
            "Give the start of each bag, without the end of the last one."
        )


def _embed_bags(weight: Tensor, rows: Tensor, offsets: Tensor, *, mode: str, pooling: str) -> Tensor:
    """Joins the table's rows of every bag.

    Args:
        weight: (R, D) float32, the table.
        rows: (N, L) int64 rows of each item.
        offsets: (B,) int64 start of each bag.
        mode: "mean" or "sum" over the items of a bag.
        pooling: "concat" or "sum" over the L rows of an item.

    Returns:
        (B, L*D) float32 with pooling "concat", (B, D) with "sum"; exactly 0 for an empty bag.
    """
    num_items, num_levels = rows.shape
    offsets = offsets.to(torch.int64)  # TorchRec's may be int32, and L*N need not fit there
    if pooling == "concat":
        # One bag per level and row: level l's items are l*N to (l+1)*N.
        starts = torch.arange(num_levels, device=offsets.device).unsqueeze(1) * num_items + offsets  # (L, B)
        bags = functional.embedding_bag(rows.T.reshape(-1), weight, starts.flatten(), mode=mode)  # (L*B, D)
        return bags.unflatten(0, (num_levels, len(offsets))).transpose(0, 1).flatten(1)
    bags = functional.embedding_bag(rows.flatten(), weight, offsets * num_levels, mode=mode)
    return bags * num_levels if mode == "mean" else bags  # every item has L rows: their mean is a sum over L
