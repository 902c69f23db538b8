"""Mutated files of every kind are decoded or rejected: none exceeds its limits of time and memory or crashes a decoder.

Run it by hand for the figures: ``python -m tests.decoding.test_fuzz --files 10000``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from qarm_features.decoding import process
from qarm_features.decoding.broken_content import BrokenContent
from tests.decoding.media_files import picture
from tests.decoding.mutated_media import mutated, valid_files

MAX_SECONDS, MAX_BYTES = 10.0, 400_000_000
SPARE = 80 << 20  # the files themselves, and code that is loaded on first use
OPTIONS = {
    "image": {
        "max_pixels": 50_000_000,
        "max_scans": 64,
        "max_bytes": MAX_BYTES,
        "size": [224, 224],
        "shortest_edge": 224,
    },
    "audio": {"sample_rate": 22_050, "max_seconds": 600, "clip_seconds": 5, "max_bytes": MAX_BYTES},
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")


def decode(task, content):
    return process.decode(
        task, content, max_seconds=MAX_SECONDS, max_bytes=MAX_BYTES, options=OPTIONS[task]
    )  # fmt: skip


def fuzz(files: int, *, first_seed: int = 0):
    """Decodes mutated files.

    Returns:
        Numbers of outcomes by reason (``decoded`` for none), the highest memory above that at the start in bytes, and the
        seconds of each file, sorted.
    """
    decode("image", picture())
    valid, outcomes, seconds, highest = valid_files(), Counter(), [], 0
    for seed in range(first_seed, first_seed + files):
        task, content = mutated(valid, seed)
        before = _reset_peak()
        started = time.perf_counter()
        try:
            array = decode(task, content)
            assert array.shape == (224, 224, 3) if task == "image" else 0 < len(array) <= 5 * 22_050
            outcomes["decoded"] += 1
        except BrokenContent as error:
            outcomes[str(error)] += 1
        seconds.append(time.perf_counter() - started)
        highest = max(highest, _memory("VmHWM") - before)
    return outcomes, highest, sorted(seconds)


def _reset_peak() -> int:
    if process.process_id() is None:
        decode("image", picture())
    Path(f"/proc/{process.process_id()}/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    pid = process.process_id()
    if pid is None:  # it was ended
        return 0
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def check(outcomes, highest, seconds):
    assert not [reason for reason in outcomes if "crashes" in reason]
    assert highest < MAX_BYTES + SPARE
    assert outcomes["decoded"] > 0.05 * len(seconds)
    assert {"image is truncated or damaged", "audio is truncated or damaged"} < set(outcomes)


@linux
def test_three_hundred_mutated_files():
    check(*fuzz(300))


@linux
@pytest.mark.slow
def test_ten_thousand_mutated_files():
    check(*fuzz(10_000, first_seed=1_000))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=1_000)
    asked = parser.parse_args()
    found, most, times = fuzz(asked.files, first_seed=asked.first_seed)
    for reason, count in found.most_common():
        print(f"{count:6,}  {reason}")
    print(f"Highest memory above the start: {most / 2**20:.0f} MiB.")
    middle, high = times[len(times) // 2], times[-max(1, len(times) // 1000)]
    print(f"Seconds of a file: median {middle:.4f}, 99.9% {high:.3f}, most {times[-1]:.3f}.")
    check(found, most, times)
