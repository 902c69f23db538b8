"""Make small media files of every format, valid and broken."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import soundfile
from PIL import Image


def picture(format: str = "PNG", size: tuple[int, int] = (48, 32), **options) -> bytes:
    """Returns a picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    return saved(image, format, **options)


def saved(image: Image.Image, format: str, **options) -> bytes:
    """Returns the bytes of a picture's file."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png_that_claims(width: int, height: int, rows: int = 0) -> bytes:
    """Returns a PNG of a few hundred bytes or, with rows, one that really holds so many black rows."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (width + 1) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_of_scans(scans: int, size: tuple[int, int] = (48, 32), **options) -> bytes:
    """Returns a progressive JPEG whose last scan, of some 75 bytes, is repeated until there are so many."""
    content = picture("JPEG", size, progressive=True, **options)
    last = content.rindex(b"\xff\xda")
    again = scans - content.count(b"\xff\xda")
    return content[:-2] + content[last:-2] * again + content[-2:]


def tone(hertz: float, seconds: float, rate: int = 22_050) -> np.ndarray:
    """Returns a sine (samples,) float32 of half the full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def recording(waveform: np.ndarray, rate: int = 22_050, format: str = "WAV", **options) -> bytes:
    """Returns the bytes of a recording's file; the waveform is (samples,) or (samples, channels)."""
    stream = io.BytesIO()
    soundfile.write(stream, waveform, rate, format=format, **options)
    return stream.getvalue()


def wav_that_claims(seconds: int, rate: int = 22_050) -> bytes:
    """Returns a 16-bit WAV of a tenth of a second whose header claims ``seconds``."""
    content = bytearray(recording(tone(440, 0.1, rate), rate))
    content[40:44] = struct.pack("<I", 2 * rate * seconds)
    return bytes(content)
