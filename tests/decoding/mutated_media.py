"""Make damaged and hostile media files: valid files of every kind, mutated by a seeded random generator."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.decoding.media_files import jpeg_of_scans, picture, recording, saved, tone

_EXTREME = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 16, 1 << 31)


def valid_files() -> list[tuple[str, bytes]]:
    """Returns valid files as (task, content)."""
    draw = np.random.default_rng(0)
    noise = Image.fromarray(draw.integers(0, 256, (40, 60, 4), dtype=np.uint8))
    deep = Image.fromarray(draw.integers(0, 65_536, (30, 20), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a lamp" * 20
    frames = [noise.rotate(angle) for angle in (0, 90, 180)]
    rgb = noise.convert("RGB")
    animated = {"save_all": True, "append_images": frames[1:], "duration": 40}
    pictures = [
        picture("JPEG"), jpeg_of_scans(12), saved(rgb, "JPEG", exif=exif, quality=80),
        saved(rgb.convert("CMYK"), "JPEG"), saved(rgb.convert("L"), "JPEG", progressive=True, restart_marker_blocks=2),
        picture(), saved(noise, "PNG", exif=exif, icc_profile=b"\0" * 500), saved(deep, "PNG"),
        saved(rgb.quantize(20), "PNG", transparency=3), saved(frames[0], "PNG", **animated),
        picture("WEBP"), saved(noise, "WEBP", lossless=True, exif=exif), saved(frames[0], "WEBP", **animated),
        saved(noise, "WEBP", quality=30, alpha_quality=20),
    ]  # fmt: skip
    sine = tone(440, 0.4)
    stereo = np.stack([sine, -sine], axis=1)
    ogg = recording(sine, format="OGG")
    recordings = [
        recording(sine), recording(stereo, subtype="FLOAT"), recording(sine, subtype="MS_ADPCM"),
        recording(sine, subtype="ULAW"), recording(stereo, format="WAVEX", subtype="PCM_24"),
        recording(sine, format="FLAC"), recording(stereo, format="FLAC", subtype="PCM_24"),
        ogg, recording(tone(300, 0.4, 48_000), 48_000, format="OGG", subtype="OPUS"), ogg * 3,
    ]  # fmt: skip
    return [("image", content) for content in pictures] + [("audio", content) for content in recordings]


def mutated(files: list[tuple[str, bytes]], seed: int) -> tuple[str, bytes]:
    """Returns one mutated file as (task, content), always the same for a seed."""
    draw = np.random.default_rng(seed)
    task, content = files[draw.integers(len(files))]
    body = bytearray(content)
    for _ in range(draw.integers(1, 5)):
        place = int(draw.integers(len(body)))
        end = min(len(body), place + int(draw.integers(1, 200)))
        kind = draw.integers(8)
        if kind == 0:
            body[place] ^= 1 << int(draw.integers(8))
        elif kind == 1:  # a size or an offset, most of which stand near the start
            width = int(draw.choice([1, 2, 3, 4]))
            value = int(draw.choice(_EXTREME)) & ((1 << 8 * width) - 1)
            place = int(draw.integers(min(len(body), 80)))
            body[place : place + width] = value.to_bytes(width, str(draw.choice(["little", "big"])))
        elif kind == 2:
            del body[place:end]
        elif kind == 3:
            body[place:place] = body[place:end] * int(draw.integers(1, 60))
        elif kind == 4:
            body[place:end] = draw.bytes(end - place)
        elif kind == 5:
            body[place:end] = bytes(end - place)
        elif kind == 6:
            other = files[draw.integers(len(files))][1]
            body[place:] = other[int(draw.integers(len(other))) :]
        else:
            del body[max(1, place) :]
        body = body or bytearray(1)
    if draw.integers(2):  # so that the damage is not found by a checksum, before the decoder sees it
        body = _png_checksums(body) if body[:4] == b"\x89PNG" else _ogg_checksums(body) if body[:4] == b"OggS" else body
    return task, bytes(body)


def _png_checksums(body: bytearray) -> bytearray:
    place = 8
    while place + 12 <= len(body):
        length = int.from_bytes(body[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(body):
            break
        body[end : end + 4] = struct.pack(">I", zlib.crc32(body[place + 4 : end]))
        place = end + 4
    return body


def _ogg_checksums(body: bytearray) -> bytearray:
    start = body.find(b"OggS")
    while start >= 0 and start + 27 <= len(body):
        segments = body[start + 26]
        end = start + 27 + segments + sum(body[start + 27 : start + 27 + segments])
        page = body[start:end]
        page[22:26] = bytes(4)
        checksum = 0
        for value in page:
            checksum = ((checksum << 8) & 0xFFFFFFFF) ^ _OGG_TABLE[(checksum >> 24) ^ value]
        body[start + 22 : start + 26] = struct.pack("<I", checksum)
        start = body.find(b"OggS", start + 4)
    return body


def _ogg_entry(value: int) -> int:
    value <<= 24
    for _ in range(8):
        value = ((value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value


_OGG_TABLE = [_ogg_entry(value) for value in range(256)]


def animation(frames: int) -> bytes:
    """Returns an animated WebP of so many tiny frames."""
    images = [Image.new("RGB", (16, 16), (number % 256, 0, 0)) for number in range(frames)]
    stream = io.BytesIO()
    images[0].save(stream, "WEBP", save_all=True, append_images=images[1:], duration=1)
    return stream.getvalue()
