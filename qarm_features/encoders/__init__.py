"""One file per modality: a raw column of items becomes tokens (B, N, D) with a mask (B, N).

``ENCODERS`` names the modalities. Each reads the content of its own name, but ``image_text``: it reads an item's image
and text together, by one vision-language model.
"""

from qarm_features.encoders.audio import AudioEncoder
from qarm_features.encoders.image import ImageEncoder
from qarm_features.encoders.image_text import ImageTextEncoder
from qarm_features.encoders.precomputed import PrecomputedEncoder
from qarm_features.encoders.text import TextEncoder
from qarm_features.fusion.tokens import BrokenContent, Tokens

ENCODERS = {
    "text": TextEncoder,
    "image": ImageEncoder,
    "audio": AudioEncoder,
    "precomputed": PrecomputedEncoder,
    "image_text": ImageTextEncoder,
}
READS = {name: (name,) for name in ENCODERS} | {"image_text": ("image", "text")}

__all__ = [
    "ENCODERS",
    "READS",
    "AudioEncoder",
    "BrokenContent",
    "ImageEncoder",
    "ImageTextEncoder",
    "PrecomputedEncoder",
    "TextEncoder",
    "Tokens",
]
