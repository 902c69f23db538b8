"""Cost of the decoding process: images per second through it, against the same function called in this process.

The decoding process bounds the time and memory of a file that a stranger made; this shows what a good file pays for it. The
rounds alternate, so that another load of the machine falls on both alike. Time is also given as processor time of both
processes together, which another load does not change.

Usage: python benchmarks/decode_media.py --rounds 5
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from qarm_features.decoding.pictures import decode_pixels
from qarm_features.decoding.process import decode, process_id

OPTIONS = {
    "max_pixels": 50_000_000,
    "max_scans": 64,
    "max_bytes": 400_000_000,
    "size": [224, 224],
    "shortest_edge": 224,
}


def photograph(side: int, format: str, **options: object) -> bytes:
    """Return a file with the size of a photograph of ``side`` x ``side`` pixels: blurred noise."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)).save(stream, format, **options)
    return stream.getvalue()


def here(content: bytes) -> np.ndarray:
    """Decode in this process."""
    return decode_pixels(content, **OPTIONS)


def there(content: bytes) -> np.ndarray:
    """Decode in the decoding process."""
    return decode("image", content, max_seconds=10.0, max_bytes=400_000_000, options=OPTIONS)


def processor_seconds() -> float:
    """Return the processor time of this process and of the decoding process, in seconds."""
    fields = Path(f"/proc/{process_id()}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(run: Callable[[bytes], np.ndarray], content: bytes, count: int) -> tuple[float, float]:
    """Return seconds on the clock and of processors for one file, over ``count`` runs."""
    started, used = time.perf_counter(), processor_seconds()
    for _ in range(count):
        run(content)
    return (time.perf_counter() - started) / count, (processor_seconds() - used) / count


def main() -> None:
    """Print one line for each kind of file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    files = {
        "JPEG, 500 x 500": (photograph(500, "JPEG"), 400),
        "JPEG, 1000 x 1000": (photograph(1000, "JPEG"), 200),
        "PNG, 500 x 500": (photograph(500, "PNG"), 100),
        "WebP, 1000 x 1000": (photograph(1000, "WEBP"), 50),
        "JPEG, 4000 x 4000": (photograph(4000, "JPEG"), 10),
    }
    started = time.perf_counter()
    there(files["JPEG, 500 x 500"][0])
    print(f"Start of the process and first file: {time.perf_counter() - started:.2f} s.")
    for name, (content, count) in files.items():
        assert np.array_equal(here(content), there(content))
        pairs = [(measure(here, content, count), measure(there, content, count)) for _ in range(rounds)]
        clock, processor = (
            [statistics.median(pair[side][kind] for pair in pairs) for side in (0, 1)] for kind in (0, 1)
        )
        print(
            f"{name}, {len(content) / 1000:,.0f} kB: {1 / clock[0]:,.0f} images/s here, {1 / clock[1]:,.0f} there, "
            f"ratio {clock[0] / clock[1]:.2f}; processor {1000 * processor[0]:.2f} ms here, {1000 * processor[1]:.2f} there."
        )


if __name__ == "__main__":
    main()
