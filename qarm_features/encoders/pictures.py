"""Bytes of a picture become pixels, safely: JPEG, PNG and WebP, its size checked before any pixel is decoded.

In: bytes that anyone may have written. Out: an RGB picture, upright, or the reason why not.
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
    """Decodes a picture.

    Args:
        content: The file.
        max_pixels: A picture whose header claims more is refused undecoded.
        draft: Pixels of a side that are enough: a larger JPEG is decoded at an eighth, a quarter or half its size.

    Returns:
        The picture in RGB, rotated as its EXIF data say; what is transparent lies on white.

    Raises:
        BrokenContent: It is of another format, too large, truncated or damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused below, and of harmless metadata
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
        except Exception:  # decoders raise anything on damaged input: OSError, SyntaxError, struct.error, ...
            known = content[:3] == b"\xff\xd8\xff" or content[:8] == b"\x89PNG\r\n\x1a\n" or content[8:12] == b"WEBP"
            reason = "image is truncated or damaged" if known else "image is not JPEG, PNG or WebP"
            raise BrokenContent(reason) from None


def fit_picture(
    picture: Image.Image, size: tuple[int, int], *, shortest_edge: int | None, resample: int
) -> Image.Image:
    """Resizes a picture to ``size``.

    Args:
        picture: The picture.
        size: Height and width of the result.
        shortest_edge: When set, the shorter side is resized to it, the longer one in proportion, and the center is cut
            out; when None the whole picture is resized, whatever its proportions, so nothing at its edges is lost.
        resample: Pillow's number of the filter.
    """
    height, width = size
    if shortest_edge is None:
        return picture.resize((width, height), resample)
    # The crop is cut out of the picture before resizing: a strip of 1 x 1,000,000 must not grow to 224 x 224,000,000.
    scale = max(shortest_edge / min(picture.size), width / picture.width, height / picture.height)
    crop_width, crop_height = width / scale, height / scale
    left, top = (picture.width - crop_width) / 2, (picture.height - crop_height) / 2
    return picture.resize((width, height), resample, box=(left, top, left + crop_width, top + crop_height))


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """Returns the pixels (3, height, width) uint8."""
    return torch.from_numpy(np.array(picture, np.uint8)).permute(2, 0, 1).contiguous()


def _upright(picture: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # damaged EXIF data are no reason to refuse the picture
        return ImageOps.exif_transpose(picture)
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to 255, not scale
        return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    rgba = picture.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white
