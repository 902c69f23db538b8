"""Resize a picture. A large one is resized strip by strip, so that it is held only once.

In: an ``UprightPicture``. Out: a picture in RGB, as Pillow's ``resize`` and ``thumbnail`` give it. The strips of a large one
are narrowed as soon as they are read, and only the narrow picture is held as a whole and resized in the other direction.
Pillow may take the two directions in the other order, and rounds in between, so that values can differ by 1.
"""

from __future__ import annotations

import math

from PIL import Image

from qarm_features.decoding.upright import UprightPicture

_SUPPORT = 3  # pixels on each side that the widest filter (Lanczos) looks at
_SMALL = 1 << 24  # pixels of a picture that is copied as a whole
_BICUBIC = Image.Resampling.BICUBIC


def fit_picture(
    picture: UprightPicture, size: tuple[int, int], *, shortest_edge: int | None, resample: int, max_bytes: int
) -> Image.Image:
    """Resize a picture to ``size``.

    Args:
        picture: Picture of any size. Its memory is released.
        size: Height and width of the result, in pixels.
        shortest_edge: Length in pixels to which the shorter side is resized before the center is cropped; the longer side
            keeps its proportion. None resizes the whole picture without its proportions, so that no edge is lost.
        resample: Pillow's number of the filter.
        max_bytes: Greatest number of bytes of the narrow picture.

    Returns:
        The resized picture.

    Raises:
        MemoryError: The narrow picture would need more bytes, because the picture is far higher than wide.
    """
    height, width = size
    full_width, full_height = picture.size
    left, top, right, bottom = 0.0, 0.0, float(full_width), float(full_height)
    if shortest_edge is not None:
        # Crop before resizing: a strip of 1 x 1,000,000 pixels must not grow to 224 x 224,000,000.
        scale = max(shortest_edge / min(picture.size), width / full_width, height / full_height)
        crop_width, crop_height = width / scale, height / scale
        # Rounding must not move an edge out of the picture, which Pillow refuses.
        left, top = max(0.0, (full_width - crop_width) / 2), max(0.0, (full_height - crop_height) / 2)
        right, bottom = min(left + crop_width, float(full_width)), min(top + crop_height, float(full_height))
    if full_width * full_height <= _SMALL and 4 * width * full_height <= max_bytes:
        return picture.whole().resize((width, height), resample, box=(left, top, right, bottom))
    margin = math.ceil(_SUPPORT * max(1.0, (bottom - top) / height)) + 1
    first, last = max(0, int(top) - margin), min(full_height, math.ceil(bottom) + margin)
    if 4 * width * (last - first) > max_bytes:
        raise MemoryError
    narrow = Image.new("RGB", (width, last - first))
    for row, strip in picture.rows(first, last):
        narrow.paste(
            strip.resize((width, strip.height), resample, box=(left, 0, right, strip.height)), (0, row - first)
        )
    picture.release()
    return narrow.resize((width, height), resample, box=(0, top - first, width, bottom - first))


def shrink_picture(picture: UprightPicture, longest_side: int) -> Image.Image:
    """Shrink a picture, with its proportions, until no side is longer than ``longest_side``.

    Args:
        picture: Picture of any size. Its memory is released.
        longest_side: Greatest width and height of the result, in pixels.

    Returns:
        The picture, as Pillow's ``thumbnail`` makes it.
    """
    width, height = picture.size
    if width * height <= _SMALL:
        whole = picture.whole()
        whole.thumbnail((longest_side, longest_side))
        return whole
    size = shrunk_size(picture.size, longest_side)
    if size == picture.size:
        return picture.whole()
    across, down = (max(1, int(full / side / 2)) for full, side in zip(picture.size, size))
    if across > 1 or down > 1:  # whole pixels are averaged first, which is fast, until the picture is twice too large
        reduced = Image.new("RGB", (-(-width // across), -(-height // down)))
        for row, strip in picture.strips(multiple=down):
            reduced.paste(strip.reduce((across, down)), (0, row // down))
        picture.release()
        return reduced.resize(size, _BICUBIC, box=(0, 0, width / across, height / down))
    narrow = Image.new("RGB", (size[0], height))
    for row, strip in picture.strips():
        narrow.paste(strip.resize((size[0], strip.height), _BICUBIC), (0, row))
    picture.release()
    return narrow.resize(size, _BICUBIC)


def shrunk_size(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """Return width and height in pixels after ``shrink_picture``, with the proportions that come closest."""
    width, height = size
    if width <= longest_side and height <= longest_side:
        return size
    aspect = width / height

    def closest(number: float, error: dict[int, float]) -> int:
        return max(min((math.floor(number), math.ceil(number)), key=lambda side: error[side]), 1)

    if aspect <= 1:
        exact = longest_side * aspect
        errors = {side: abs(aspect - side / longest_side) for side in (math.floor(exact), math.ceil(exact))}
        return closest(exact, errors), longest_side
    exact = longest_side / aspect
    errors = {
        side: abs(aspect - longest_side / side) if side else 0.0 for side in (math.floor(exact), math.ceil(exact))
    }
    return longest_side, closest(exact, errors)
