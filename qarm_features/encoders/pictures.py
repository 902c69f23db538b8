"""Decode JPEG, PNG and WebP pictures safely: the size of a picture is checked before any pixel is decoded.

In: bytes from an untrusted source. Out: an upright RGB picture, or the reason why the bytes were refused.
"""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps

from qarm_features.fusion.tokens import BrokenContent

_FORMATS = ["JPEG", "PNG", "WEBP"]


def decode_picture(content: bytes, *, max_pixels: int, draft: int | None = None) -> Image.Image:
    """Decode a picture.

    Args:
        content: Bytes of the file.
        max_pixels: Greatest number of pixels; a picture whose header names more is refused without being decoded.
        draft: Side in pixels that is large enough: a larger JPEG is decoded at an eighth, a quarter or half of its size.
            None decodes the full size.

    Returns:
        The picture in RGB, rotated according to its EXIF data, with transparent parts on white.

    Raises:
        BrokenContent: The picture has another format, is too large, truncated or damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about large pictures, which are refused below, and metadata
        try:
            with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise BrokenContent(f"image has more than {max_pixels} pixels")
                if draft is not None:
                    picture.draft("RGB", (draft, draft))
                picture.load()
                return _on_white(_upright(picture))
        except BrokenContent:
            raise
        except Image.DecompressionBombError:
            raise BrokenContent(f"image has more than {max_pixels} pixels") from None
        except Exception:  # decoders raise many types on damaged input: OSError, SyntaxError, ...
            known = content[:3] == b"\xff\xd8\xff" or content[:8] == b"\x89PNG\r\n\x1a\n" or content[8:12] == b"WEBP"
            reason = "image is truncated or damaged" if known else "image is not JPEG, PNG or WebP"
            raise BrokenContent(reason) from None


def fit_picture(
    picture: Image.Image, size: tuple[int, int], *, shortest_edge: int | None, resample: int
) -> Image.Image:
    """Resize a picture to ``size``.

    Args:
        picture: Picture of any size.
        size: Height and width of the result, in pixels.
        shortest_edge: Length in pixels to which the shorter side is resized before the center is cropped; the longer side
            keeps its proportion. None resizes the whole picture without its proportions, so that no edge is lost.
        resample: Pillow's number of the filter.

    Returns:
        The resized picture.
    """
    height, width = size
    if shortest_edge is None:
        return picture.resize((width, height), resample)
    # Crop before resizing: a strip of 1 x 1,000,000 pixels must not grow to 224 x 224,000,000.
    scale = max(shortest_edge / min(picture.size), width / picture.width, height / picture.height)
    crop_width, crop_height = width / scale, height / scale
    left, top = (picture.width - crop_width) / 2, (picture.height - crop_height) / 2
    return picture.resize((width, height), resample, box=(left, top, left + crop_width, top + crop_height))


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """Return the pixels of a picture: (3, height, width) uint8."""
    return torch.from_numpy(np.array(picture, np.uint8)).permute(2, 0, 1).contiguous()


def _upright(picture: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # a picture with damaged EXIF data is still usable
        return ImageOps.exif_transpose(picture)
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits per pixel; Pillow would clip them to 255 instead of scaling
        return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    rgba = picture.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white
