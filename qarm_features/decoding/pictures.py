"""Decode JPEG, PNG and WebP pictures: what the decoder will need is known from the header before any pixel is decoded.

In: bytes from an untrusted source. Out: an upright RGB picture, or the reason why the bytes were refused.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401  registers the three formats

from qarm_features.decoding.broken_content import BrokenContent
from qarm_features.decoding.picture_headers import decoded_bytes, has_more_scans, webp_size
from qarm_features.decoding.resizing import fit_picture, shrink_picture
from qarm_features.decoding.upright import UprightPicture

_FORMATS = ["JPEG", "PNG", "WEBP"]
_BICUBIC = 3  # Pillow's number of the bicubic filter


def decode_pixels(
    content: bytes,
    *,
    max_pixels: int,
    max_scans: int,
    max_bytes: int,
    size: Sequence[int] | None = None,
    shortest_edge: int | None = None,
    resample: int = _BICUBIC,
    longest_side: int | None = None,
) -> np.ndarray:
    """Decode a picture and resize it.

    Args:
        content: Bytes of the file.
        max_pixels: Greatest number of pixels; a picture whose header names more is refused without being decoded.
        max_scans: Greatest number of scans of a JPEG; each takes about as long as a whole simple picture.
        max_bytes: Greatest number of bytes that decoding may need.
        size: Height and width of the result, in pixels; None keeps the proportions.
        shortest_edge: With ``size``: length in pixels to which the shorter side is resized before the center is cropped;
            None resizes the whole picture.
        resample: With ``size``: Pillow's number of the filter.
        longest_side: Without ``size``: greatest width and height of the result; None keeps the size.

    Returns:
        Pixels (height, width, 3) uint8: upright according to the EXIF data, in RGB, with transparent parts on white. A JPEG
        that is far too large is decoded at an eighth, a quarter or half of its size.

    Raises:
        BrokenContent: The picture has another format, exceeds a limit, or is truncated or damaged.
        MemoryError: The picture needs more than ``max_bytes``, which its header did not announce.
    """
    draft = longest_side if size is None else 2 * max(*size, shortest_edge or 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about large pictures, which are refused here, and metadata
        try:
            picture = _open(content, draft=draft, max_pixels=max_pixels, max_scans=max_scans, max_bytes=max_bytes)
            if size is not None:
                resized = fit_picture(
                    picture,
                    (size[0], size[1]),
                    shortest_edge=shortest_edge,
                    resample=resample,
                    max_bytes=max_bytes,
                )
            else:
                resized = picture.whole() if longest_side is None else shrink_picture(picture, longest_side)
        except (BrokenContent, MemoryError):
            raise
        except Image.DecompressionBombError:
            raise BrokenContent(f"image has more than {max_pixels} pixels") from None
        except Exception:  # decoders raise many types on damaged input: OSError, SyntaxError, ...
            known = content[:3] == b"\xff\xd8\xff" or content[:8] == b"\x89PNG\r\n\x1a\n" or content[8:12] == b"WEBP"
            reason = "image is truncated or damaged" if known else "image is not JPEG, PNG or WebP"
            raise BrokenContent(reason) from None
    pixels = np.frombuffer(resized.tobytes(), np.uint8)
    return pixels.reshape(resized.height, resized.width, 3)


def _open(content: bytes, *, draft: int | None, max_pixels: int, max_scans: int, max_bytes: int) -> UprightPicture:
    """Decode the pixels of a picture that keeps within the limits."""
    claimed = webp_size(content)
    if claimed[0] * claimed[1] > max_pixels:
        raise BrokenContent(f"image has more than {max_pixels} pixels")
    picture: Image.Image = Image.open(io.BytesIO(content), formats=_FORMATS)
    full_size = picture.size
    if full_size[0] * full_size[1] > max_pixels:
        raise BrokenContent(f"image has more than {max_pixels} pixels")
    if picture.format in ("JPEG", "MPO") and has_more_scans(content, max_scans):
        raise BrokenContent(f"image has more than {max_scans} scans")
    if draft is not None:
        picture.draft("RGB", (draft, draft))
    if decoded_bytes(picture, full_size) > max_bytes:
        raise BrokenContent(f"image needs more than {max_bytes} bytes to decode")
    picture.load()
    return UprightPicture(picture)
