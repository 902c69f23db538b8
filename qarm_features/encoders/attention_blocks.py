"""Build the transformer blocks that the backbones trained from scratch share.

In: dimensions. Out: a module that maps tokens (B, N, D) to tokens (B, N, D).
"""

from __future__ import annotations

from torch import nn


def attention_blocks(dim: int, *, num_layers: int, num_heads: int, dropout: float = 0.0) -> nn.TransformerEncoder:
    """Return pre-norm transformer blocks with a final layer norm.

    Args:
        dim: D, a multiple of ``num_heads``.
        num_layers: Number of blocks, at least 1.
        num_heads: H, at least 1.
        dropout: Dropout probability in each block, in [0, 1).

    Returns:
        A module that maps (B, N, D) to (B, N, D).

    Source: pre-norm blocks, arXiv 2002.04745.
    """
    block = nn.TransformerEncoderLayer(
        dim, num_heads, 4 * dim, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(block, num_layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
