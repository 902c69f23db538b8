"""Read a decoded picture in strips of rows: upright, in RGB and on white, without a second copy of the whole picture.

In: a decoded picture of any mode. Out: strips in RGB of a few megabytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image

_PIXELS_OF_A_STRIP = 1 << 19
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UprightPicture:
    """Show a picture as its EXIF data say that it stands, in RGB, with transparent parts on white.

    Args:
        picture: Decoded picture.

    Attributes:
        size: Width and height in pixels, upright.
    """

    def __init__(self, picture: Image.Image) -> None:
        self._picture: Image.Image | None = picture
        self._orientation = 1
        with contextlib.suppress(Exception):  # a picture with damaged EXIF data is still usable
            found = picture.getexif().get(ExifTags.Base.Orientation, 1)
            self._orientation = found if found in _TURN else 1
        self.size: tuple[int, int] = picture.size if self._orientation < 5 else (picture.height, picture.width)

    def strips(self, *, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
        """Yield the picture in strips, from top to bottom.

        Args:
            multiple: Number of rows by which the height of every strip but the last can be divided.

        Yields:
            Number of the first row, and the strip in RGB.
        """
        yield from self.rows(0, self.size[1], multiple=multiple)

    def rows(self, first: int, last: int, *, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
        """Yield the rows from ``first`` up to ``last`` in strips, as ``strips`` does."""
        step = multiple * max(1, _PIXELS_OF_A_STRIP // (self.size[0] * multiple))
        for top in range(first, last, step):
            yield top, self._strip(top, min(top + step, last))

    def whole(self) -> Image.Image:
        """Return the whole picture in RGB."""
        picture = Image.new("RGB", self.size)
        for top, strip in self.strips():
            picture.paste(strip, (0, top))
        return picture

    def release(self) -> None:
        """Give back the memory of the picture, whose strips can no longer be read."""
        self._picture = None

    def _strip(self, top: int, bottom: int) -> Image.Image:
        assert self._picture is not None
        width, height = self._picture.size
        box = {
            1: (0, top, width, bottom),
            3: (0, height - bottom, width, height - top),
            5: (top, 0, bottom, height),
            7: (width - bottom, 0, width - top, height),
        }[self._orientation - (self._orientation + 1) % 2]
        strip = self._picture.crop(box)
        turn = _TURN.get(self._orientation)
        return _on_white(strip if turn is None else strip.transpose(turn))


def _on_white(strip: Image.Image) -> Image.Image:
    if strip.mode.startswith("I"):  # 16 bits per pixel; Pillow would clip them to 255 instead of scaling
        return Image.fromarray((np.asarray(strip).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not strip.has_transparency_data:
        return strip if strip.mode == "RGB" else strip.convert("RGB")
    rgba = strip.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white
