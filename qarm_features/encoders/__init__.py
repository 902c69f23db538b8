"""Encode each modality of an item: raw values become tokens (B, N, D) with a mask (B, N).

``ENCODERS`` names the modalities; each has one file in this folder. An encoder reads the content of its own name, with one
exception: ``image_text`` reads the image and the text of an item together, by one vision-language model. ``READS`` holds
the content that each encoder reads.
"""

from __future__ import annotations

from collections.abc import Callable

from qarm_features.encoders.modality_encoder import ModalityEncoder
from qarm_features.extras import naming_extra

with naming_extra("Item encoders", "torch"):
    from qarm_features.encoders.audio import AudioEncoder
    from qarm_features.encoders.image import ImageEncoder
    from qarm_features.encoders.image_text import ImageTextEncoder
    from qarm_features.encoders.precomputed import PrecomputedEncoder
    from qarm_features.encoders.text import TextEncoder
    from qarm_features.fusion.tokens import BrokenContent, Tokens

ENCODERS: dict[str, Callable[..., ModalityEncoder]] = {
    "text": TextEncoder,
    "image": ImageEncoder,
    "audio": AudioEncoder,
    "precomputed": PrecomputedEncoder,
    "image_text": ImageTextEncoder,
}
READS: dict[str, tuple[str, ...]] = {name: (name,) for name in ENCODERS} | {"image_text": ("image", "text")}

__all__ = [
    "ENCODERS",
    "READS",
    "AudioEncoder",
    "BrokenContent",
    "ImageEncoder",
    "ImageTextEncoder",
    "ModalityEncoder",
    "PrecomputedEncoder",
    "TextEncoder",
    "Tokens",
]
