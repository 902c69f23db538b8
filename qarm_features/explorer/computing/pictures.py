"""Small pictures of items.

In: the images of a catalog, as bytes or URIs. Out: JPEGs of at most a few kilobytes. An image of strangers is decoded by the
bounded process of ``decoding`` alone; one that is refused there has no picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from qarm_features.decoding.broken_content import BrokenContent
from qarm_features.settings.load import Settings

if TYPE_CHECKING:
    from qarm_features.encoders.media_limits import ImageLimits

_QUALITY, _MOST_BYTES = 80, 100_000


def small_pictures(items: DataFrame, *, limits: ImageLimits, side: int) -> DataFrame:
    """Decode the images of items on the executors.

    Args:
        items: ``item_id``, ``image`` (bytes) and ``image_uri``, of which one may be set.
        limits: Limits of what is read and decoded.
        side: Longest side of the result in pixels, at least 1.

    Returns:
        ``item_id`` and ``picture`` (JPEG), without the items whose image is refused.
    """

    def decode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in range(batch.num_rows):  # one at a time, because an image may have 20 MB
                raw = batch["image"][row].as_py() or batch["image_uri"][row].as_py()
                made = small_picture(raw, limits, side)
                if made is not None:
                    columns = [batch["item_id"].slice(row, 1), pa.array([made], pa.binary())]
                    yield pa.RecordBatch.from_arrays(columns, ["item_id", "picture"])

    rows = items.where("image IS NOT NULL OR image_uri IS NOT NULL").select("item_id", "image", "image_uri")
    kind = rows.schema["item_id"].dataType.simpleString()
    return rows.mapInArrow(decode, f"item_id {kind}, picture binary")


def small_picture(raw: bytes | str, limits: ImageLimits, side: int) -> bytes | None:
    """Return a small JPEG of an image, or None if the image is refused.

    Args:
        raw: Bytes or URI of the image.
        limits: Limits of what is read and decoded.
        side: Longest side of the result in pixels, at least 1.
    """
    from qarm_features.encoders.media_limits import decode_image

    try:
        pixels = decode_image(raw, limits, longest_side=side)
    except BrokenContent:
        return None
    content = _jpeg(pixels)
    return content if len(content) <= _MOST_BYTES else None


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def image_limits(settings: Settings) -> ImageLimits:
    """Return the limits of what is read and decoded of an image, from the section ``encoder`` of the settings."""
    from qarm_features.encoders.media_limits import ImageLimits

    encoder = settings.encoder
    roots = tuple(settings.path(root.get_secret_value()) for root in encoder.media_roots)
    return ImageLimits(roots, **{name: getattr(encoder, name) for name in ImageLimits._fields[1:]})
