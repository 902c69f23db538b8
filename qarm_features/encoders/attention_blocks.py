"""Transformer blocks shared by the backbones that are trained here."""

from __future__ import annotations

from torch import nn


def attention_blocks(dim: int, *, num_layers: int, num_heads: int, dropout: float = 0.0) -> nn.TransformerEncoder:
    """Returns pre-norm transformer blocks with a final norm; in and out (B, N, D).

    Source: pre-norm, arXiv 2002.04745.
    """
    block = nn.TransformerEncoderLayer(
        dim, num_heads, 4 * dim, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(block, num_layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
