"""One file per modality: a raw column of items becomes tokens (B, N, D) with a mask (B, N).

``ENCODERS`` names the modalities of the table ``items``. ``ImageTextEncoder`` takes the image and the text of an item
together, by one vision-language model; give it the key ``image_text``.
"""

from qarm_features.encoders.audio import AudioEncoder
from qarm_features.encoders.image import ImageEncoder
from qarm_features.encoders.image_text import ImageTextEncoder
from qarm_features.encoders.precomputed import PrecomputedEncoder
from qarm_features.encoders.text import TextEncoder
from qarm_features.encoders.tokens import BrokenContent, Tokens

ENCODERS = {"text": TextEncoder, "image": ImageEncoder, "audio": AudioEncoder, "precomputed": PrecomputedEncoder}

__all__ = [
    "ENCODERS",
    "AudioEncoder",
    "BrokenContent",
    "ImageEncoder",
    "ImageTextEncoder",
    "PrecomputedEncoder",
    "TextEncoder",
    "Tokens",
]
