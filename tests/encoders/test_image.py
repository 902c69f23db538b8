"""Untrusted pictures are decoded to pixels of a fixed size, or refused with a reason, and then encoded."""

import numpy as np
import pytest
import torch
from PIL import Image

from qarm_features.encoders import BrokenContent, ImageEncoder
from tests.decoding.media_files import picture, png_that_claims, saved

RED, BLUE, WHITE = [255, 0, 0], [0, 0, 255], [255, 255, 255]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return ImageEncoder("patch-transformer").eval()


def corners(pixels: torch.Tensor) -> list[list[int]]:
    """Returns the colors at the left and at the right end of the middle row."""
    middle = pixels.shape[1] // 2
    return [pixels[:, middle, 1].tolist(), pixels[:, middle, -2].tolist()]


@pytest.mark.parametrize(("format", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_each_format_becomes_the_whole_picture_at_one_size(encoder, format, options):
    pixels = encoder.decode(picture(format, **options))

    assert (tuple(pixels.shape), pixels.dtype) == ((3, 64, 64), torch.uint8)
    np.testing.assert_allclose(corners(pixels), [RED, BLUE], atol=6)


@pytest.mark.parametrize("mode", ["L", "P", "LA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(encoder, mode):
    image = (
        Image.fromarray(np.full((8, 8), 257 * 128, np.uint16)) if mode == "I;16" else Image.new("RGB", (8, 8), "gray")
    )
    content = saved(image if mode == "I;16" else image.convert(mode), "JPEG" if mode == "CMYK" else "PNG")

    pixels = encoder.decode(content)

    assert tuple(pixels.shape) == (3, 64, 64)
    if mode != "1":
        assert abs(pixels.float().mean().item() - 128) < 2


def test_what_is_transparent_lies_on_white(encoder):
    assert corners(encoder.decode(saved(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG"))) == [WHITE, WHITE]


def test_the_rotation_that_exif_tells_is_applied(encoder):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = encoder.decode(picture("JPEG", quality=95, exif=exif))

    np.testing.assert_allclose(corners(turned), [BLUE, RED], atol=6)


def test_damaged_exif_and_animation_do_not_matter(encoder):
    damaged = picture("JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    animated = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)

    np.testing.assert_allclose(corners(encoder.decode(damaged)), [RED, BLUE], atol=6)
    assert corners(encoder.decode(animated)) == [RED, RED]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_a_truncated_picture_is_refused(encoder, format, kept):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    content = saved(noise, format)

    with pytest.raises(BrokenContent, match="^image is truncated or damaged$"):
        encoder.decode(content[: int(kept * len(content))])


@pytest.mark.parametrize("content", [b"a text", picture("GIF"), picture("BMP"), picture("TIFF"), b"\0" * 100])
def test_other_formats_are_refused(encoder, content):
    with pytest.raises(BrokenContent, match="^image is not JPEG, PNG or WebP$"):
        encoder.decode(content)


def test_bytes_of_chance_after_a_header_are_refused_and_never_raise_anything_else(encoder):
    generator = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "WEBP"):
        good = picture(format)
        for _ in range(60):
            bad = bytearray(good)
            for at in generator.integers(12, len(bad), 8):
                bad[at] = generator.integers(256)
            try:
                assert encoder.decode(bytes(bad)).shape == (3, 64, 64)
            except BrokenContent as error:
                assert str(error).startswith("image ")


@pytest.mark.parametrize("side", [8_000, 12_000, 40_000])
def test_too_many_pixels_are_refused_without_a_warning(encoder, side):
    with pytest.raises(BrokenContent, match="^image has more than 50000000 pixels$"):
        encoder.decode(png_that_claims(side, side))


def test_the_limit_is_a_setting():
    encoder = ImageEncoder("patch-transformer", max_image_pixels=48 * 32 - 1)

    with pytest.raises(BrokenContent, match="^image has more than 1535 pixels$"):
        encoder.decode(picture())


def test_the_bytes_of_an_image_are_bounded_and_its_uri_must_lie_under_a_root(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    encoder = ImageEncoder("patch-transformer", media_roots=[str(tmp_path)], max_media_bytes=200)

    assert encoder.decode(str(tmp_path / "a.png")).shape == (3, 64, 64)
    with pytest.raises(BrokenContent, match="^image is larger than 200 bytes$"):
        encoder.decode(picture() + b"\0" * 200)
    with pytest.raises(BrokenContent, match="^image URI is outside media_roots$"):
        ImageEncoder("patch-transformer").decode(str(tmp_path / "a.png"))


def test_tokens_are_one_per_patch_and_do_not_depend_on_the_batch(encoder):
    images = [encoder.decode(picture()), encoder.decode(picture("PNG", (10, 90)))]

    with torch.no_grad():
        both, alone, none = encoder(images), encoder(images[1:]), encoder([])

    assert both.values.shape == (2, 64, 128) and both.mask.shape == (2, 64) and both.mask.all()
    torch.testing.assert_close(both.values[1:], alone.values, atol=1e-5, rtol=0)
    assert none.values.shape == (0, 64, 128)


def test_tokens_lie_where_the_module_lies():
    tokens = ImageEncoder("patch-transformer").to("meta")([torch.zeros(3, 64, 64, dtype=torch.uint8)])

    assert tokens.values.device == tokens.mask.device == torch.device("meta")


def test_only_training_augments(encoder):
    images = [encoder.decode(picture())] * 2

    assert torch.equal(encoder(images).values, encoder(images).values)
    encoder.train()
    values = encoder(images).values
    encoder.eval()
    assert not torch.allclose(values[0], values[1])


def test_a_backbone_trained_here_is_saved_whole(encoder):
    assert encoder.trained and encoder.frozen_names() == set() and encoder.dim == 128
    copy = ImageEncoder(**encoder.config).eval()
    copy.load_state_dict(encoder.state_dict())
    images = [encoder.decode(picture())]
    assert torch.equal(copy(images).values, encoder(images).values)


def test_a_size_that_no_patch_divides_is_refused():
    with pytest.raises(ValueError, match="image_size is 60, must be a multiple of 8"):
        ImageEncoder("patch-transformer", image_size=60)
    with pytest.raises(ValueError, match="dim is 30, must be a multiple of num_heads, 4"):
        ImageEncoder("patch-transformer", dim=30)
