"""One file per modality: a raw column of items becomes tokens (B, N, D) with a mask (B, N)."""

from qarm_features.encoders.text import TextEncoder

ENCODERS = {"text": TextEncoder}

__all__ = ["ENCODERS", "TextEncoder"]
