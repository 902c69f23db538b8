"""A picture is decoded upright, in RGB and on white, and resized as Pillow resizes it; a large one in strips."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from qarm_features.decoding import resizing, upright
from qarm_features.decoding.pictures import decode_pixels
from qarm_features.decoding.resizing import shrunk_size
from tests.decoding.media_files import picture, saved

LIMITS = {"max_pixels": 10**8, "max_scans": 64, "max_bytes": 10**9}


def files(size=(97, 61)):
    """Returns a smooth picture in every mode and orientation, each with a short description."""
    draw = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    rgba = Image.fromarray(draw).resize(size)
    rgb = rgba.convert("RGB")
    deep = Image.fromarray(np.asarray(rgb)[:, :, 0].astype(np.uint16) * 257)
    modes = {
        "RGBA": (rgba, "PNG", {}), "RGB": (rgb, "PNG", {}), "L": (rgb.convert("L"), "PNG", {"transparency": 7}),
        "LA": (rgba.convert("LA"), "PNG", {}), "P": (rgb.quantize(30), "PNG", {"transparency": 3}),
        "16 bits": (deep, "PNG", {}), "CMYK": (rgb.convert("CMYK"), "JPEG", {}), "WebP": (rgba, "WEBP", {"lossless": True}),
    }  # fmt: skip
    for mode, (image, format, options) in modes.items():
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            yield f"{mode}, orientation {orientation}", saved(image, format, exif=exif, **options)


def whole(content):
    """Returns a picture as the documentation of Pillow says, without strips."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def farthest(content, expected, **options):
    found = decode_pixels(content, **LIMITS, **options).astype(int)
    assert found.shape == np.asarray(expected).shape
    return np.abs(found - np.asarray(expected)).max()


def test_every_mode_and_orientation_gives_the_whole_picture(monkeypatch):
    monkeypatch.setattr(upright, "_PIXELS_OF_A_STRIP", 500)  # some ten strips

    distances = {name: farthest(content, whole(content)) for name, content in files()}

    assert len(distances) == 64
    assert max(distances.values()) <= 1  # two ways to lay a transparent picture on white round differently


@pytest.mark.parametrize("small", [resizing._SMALL, 0])
def test_a_picture_is_resized_as_pillow_does_it_as_a_whole_and_in_strips(monkeypatch, small):
    monkeypatch.setattr(upright, "_PIXELS_OF_A_STRIP", 500)
    monkeypatch.setattr(resizing, "_SMALL", small)
    for name, content in files():
        if content.startswith(b"\xff\xd8"):  # a JPEG is decoded at a smaller size
            continue
        full = whole(content)
        shrunk = {side: full.copy() for side in (4096, 60, 20, 7)}
        for side, image in shrunk.items():
            image.thumbnail((side, side))
            assert farthest(content, image, longest_side=side) <= 3, (name, side)
        for filter in range(6):
            expected = full.resize((24, 32), filter)
            assert farthest(content, expected, size=[32, 24], resample=filter) <= 3, (name, filter)


def test_rounding_moves_no_edge_of_the_crop_out_of_the_picture():
    for size in ((301, 97), (97, 301)):  # (301 - 224 / (224 / 97)) / 2 and (97 - 97.00000000000001) / 2
        pixels = decode_pixels(picture("PNG", size), **LIMITS, size=[224, 224], shortest_edge=224)

        assert pixels.shape == (224, 224, 3)
        assert pixels[112, 100 if size[0] > size[1] else 20].tolist() == [255, 0, 0]


def test_a_shrunk_picture_keeps_its_proportions():
    sizes = [(8000, 6000), (6000, 8000), (100, 1), (1, 5000), (5000, 1), (4096, 4097), (7, 7)]

    for size in sizes:
        image = Image.new("1", size)
        image.thumbnail((4096, 4096), Image.Resampling.NEAREST)
        assert shrunk_size(size, 4096) == image.size
