"""Judge a picture by its header: its size, its scans, and the memory that its decoder will need.

In: the bytes of a file, or a picture whose pixels are not decoded yet. Out: numbers, at next to no cost.
"""

from __future__ import annotations

import re

from PIL import Image, JpegImagePlugin

_BYTES_OF_A_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # in Pillow; all other modes take 4
# Pillow decodes WebP as an animation: two canvases, a copy of the bytes and the picture, of 4 bytes each.
_BYTES_OF_A_WEBP_PIXEL = 16
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # not a stuffed byte and no restart inside a scan


def webp_size(content: bytes) -> tuple[int, int]:
    """Return width and height in pixels that the first chunk of a WebP file names; (0, 0) for no WebP file.

    Pillow allocates the whole canvas before its size can be asked for.
    """
    kind, start = content[12:16], content[:34]
    if content[8:12] != b"WEBP" or len(start) < 30:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(start[24:27], "little"), 1 + int.from_bytes(start[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(start[26:28], "little") & 0x3FFF, int.from_bytes(start[28:30], "little") & 0x3FFF


def has_more_scans(content: bytes, most: int) -> bool:
    """Return whether a JPEG has more scans than allowed. Each scan goes over all pixels, however few bytes it has.

    Args:
        content: Bytes of the file.
        most: Greatest number of scans, at least 1.

    Returns:
        True if there are more.
    """
    if content.count(b"\xff\xda") <= most:  # other segments may hold these bytes too, so the number is never too low
        return False
    place, scans = 2, 0
    while scans <= most and (found := _MARKER.search(content, place)):
        kind = content[found.end() - 1]
        if kind == 0xD9:  # the end of the picture
            break
        scans += kind == 0xDA
        length = 0 if kind in (0x01, 0xD8) else int.from_bytes(content[found.end() : found.end() + 2], "big")
        place = found.end() + length
    return scans > most


def decoded_bytes(picture: Image.Image, full_size: tuple[int, int]) -> int:
    """Return how many bytes the decoder of a picture needs, its output included.

    Args:
        picture: Picture whose pixels are not decoded yet.
        full_size: Width and height in pixels before a smaller output was asked for.

    Returns:
        Number of bytes.
    """
    pixels, full_pixels = picture.width * picture.height, full_size[0] * full_size[1]
    if picture.format == "WEBP":
        return _BYTES_OF_A_WEBP_PIXEL * pixels
    output = pixels * _BYTES_OF_A_PIXEL.get(picture.mode, 4)
    if isinstance(picture, JpegImagePlugin.JpegImageFile) and picture.info.get("progressive"):
        # The coefficients of all scans are collected, in 2 bytes each, at the resolution of each component.
        sampling = [(layer[1], layer[2]) for layer in picture.layer]
        widest, highest = max(h for h, _ in sampling), max(v for _, v in sampling)
        output += 2 * full_pixels * sum(h * v for h, v in sampling) // max(1, widest * highest)
    return output
