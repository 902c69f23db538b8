"""Hold the limits of what is read and decoded of an image or a recording, and apply them.

In: the raw value of an item, which is bytes or a URI, and limits. Out: decoded pixels or samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from qarm_features.decoding.process import decode
from qarm_features.encoders.media import media_bytes


class ImageLimits(NamedTuple):
    """Hold the limits of an image. The constructor arguments of ``ImageEncoder`` have the same names and meanings."""

    media_roots: tuple[str, ...]
    max_media_bytes: int
    max_image_pixels: int
    max_image_scans: int
    max_decoded_bytes: int
    max_decode_seconds: float

    def as_arguments(self) -> dict[str, Any]:
        """Return the limits as constructor arguments, as JSON."""
        return {**self._asdict(), "media_roots": list(self.media_roots)}


class AudioLimits(NamedTuple):
    """Hold the limits of a recording. The constructor arguments of ``AudioEncoder`` have the same names and meanings."""

    media_roots: tuple[str, ...]
    max_media_bytes: int
    max_audio_seconds: float
    max_decoded_bytes: int
    max_decode_seconds: float

    def as_arguments(self) -> dict[str, Any]:
        """Return the limits as constructor arguments, as JSON."""
        return {**self._asdict(), "media_roots": list(self.media_roots)}


def decode_image(
    raw: bytes | str,
    limits: ImageLimits,
    *,
    size: Sequence[int] | None = None,
    shortest_edge: int | None = None,
    resample: int | None = None,
    longest_side: int | None = None,
) -> np.ndarray:
    """Decode an image in the decoding process.

    Args:
        raw: The bytes of a JPEG, PNG or WebP file, or the URI of such a file.
        limits: Limits of what is read and decoded.
        size: Height and width of the result, in pixels; None keeps the proportions.
        shortest_edge: Length in pixels to which the shorter side is resized before the center is cropped.
        resample: Pillow's number of the filter; None takes the bicubic one.
        longest_side: Without ``size``: greatest width and height of the result, in pixels.

    Returns:
        Pixels (height, width, 3) uint8.

    Raises:
        BrokenContent: The image cannot be read, exceeds a limit, or is truncated or damaged.
    """
    content = media_bytes(raw, medium="image", roots=limits.media_roots, max_bytes=limits.max_media_bytes)
    asked = {"size": size, "shortest_edge": shortest_edge, "resample": resample, "longest_side": longest_side}
    options = {
        "max_pixels": limits.max_image_pixels,
        "max_scans": limits.max_image_scans,
        "max_bytes": limits.max_decoded_bytes,
        **{name: value for name, value in asked.items() if value is not None},
    }
    return decode(
        "image", content, max_seconds=limits.max_decode_seconds, max_bytes=limits.max_decoded_bytes, options=options
    )


def decode_audio(raw: bytes | str, limits: AudioLimits, *, sample_rate: int, clip_seconds: float) -> np.ndarray:
    """Decode the start of a recording in the decoding process.

    Args:
        raw: The bytes of a WAV, FLAC or OGG file, or the URI of such a file.
        limits: Limits of what is read and decoded.
        sample_rate: Sample rate of the result, in Hz.
        clip_seconds: Length of the decoded clip from the start of the recording, in seconds.

    Returns:
        Waveform (samples,) float32 in [-1, 1], the mean of the channels.

    Raises:
        BrokenContent: The recording cannot be read, exceeds a limit, or is truncated or damaged.
    """
    content = media_bytes(raw, medium="audio", roots=limits.media_roots, max_bytes=limits.max_media_bytes)
    options = {
        "sample_rate": sample_rate,
        "max_seconds": limits.max_audio_seconds,
        "clip_seconds": clip_seconds,
        "max_bytes": limits.max_decoded_bytes,
    }
    return decode(
        "audio", content, max_seconds=limits.max_decode_seconds, max_bytes=limits.max_decoded_bytes, options=options
    )


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Return pixels (height, width, 3) uint8 as a tensor (3, height, width)."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
