"""A file of a stranger is decoded in another process, which is ended and replaced when the file exceeds a limit."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from qarm_features.decoding import messages, process
from qarm_features.decoding.broken_content import BrokenContent
from tests.decoding.media_files import jpeg_of_scans, picture, recording, tone

OPTIONS = {"max_pixels": 50_000_000, "max_scans": 64, "max_bytes": 400_000_000, "size": [64, 64]}


def decode(content, *, max_seconds=10.0, max_bytes=400_000_000, **options):
    options = {**OPTIONS, "max_bytes": max_bytes, **options}
    return process.decode("image", content, max_seconds=max_seconds, max_bytes=max_bytes, options=options)


def test_pictures_and_recordings_are_decoded_by_one_process_that_is_kept():
    pixels = decode(picture())
    first = process.process_id()
    options = {"sample_rate": 22_050, "max_seconds": 600, "clip_seconds": 5}

    samples = process.decode("audio", recording(tone(440, 1)), max_seconds=10, max_bytes=400_000_000, options=options)

    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
    assert pixels[0, 0].tolist() == [255, 0, 0] and pixels[0, -1].tolist() == [0, 0, 255]
    assert samples.shape == (22_050,) and samples.dtype == np.float32
    assert first == process.process_id() != os.getpid()


def test_a_file_that_takes_too_long_is_refused_in_the_middle_of_its_decoder_and_the_next_is_decoded():
    slow = jpeg_of_scans(2_000, (2_000, 1_500))
    decode(picture())
    before, started = process.process_id(), time.process_time()

    with pytest.raises(BrokenContent, match=r"^image takes more than 0\.2 seconds to decode$"):
        decode(slow, max_seconds=0.2, max_scans=10**9)

    assert time.process_time() - started < 1
    assert decode(picture()).shape == (64, 64, 3)
    assert process.process_id() != before


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded_and_other_bytes_are_no_scans():
    many = jpeg_of_scans(200_000)
    in_a_comment = picture("JPEG", comment=b"\xff\xda" * 100)
    behind_the_end = picture("JPEG") + b"\xff\xda" * 100
    started = time.monotonic()

    for content in (many, jpeg_of_scans(65)):
        with pytest.raises(BrokenContent, match="^image has more than 64 scans$"):
            decode(content)

    assert time.monotonic() - started < 10
    assert decode(in_a_comment).shape == decode(behind_the_end).shape == decode(jpeg_of_scans(64)).shape


def test_a_picture_whose_decoding_needs_too_much_memory_is_refused():
    for content in (picture("PNG", (1200, 1000)), picture("WEBP", (700, 500)), jpeg_of_scans(10, (1300, 1000))):
        with pytest.raises(BrokenContent, match="^image needs more than 4000000 bytes to decode$"):
            decode(content, max_bytes=4_000_000, size=[640, 640])
    # Its header announces 8 MB; the rows are resized to a million pixels before the columns are.
    with pytest.raises(BrokenContent, match="^image needs more than 100000000 bytes to decode$"):
        decode(picture("PNG", (2, 1_000_000)), max_bytes=100_000_000)


def test_the_limit_of_memory_holds_where_no_header_announces_what_is_needed():
    rate = 383_987  # a prime number: its spectrum needs far more memory than its samples
    options = {"sample_rate": 22_050, "max_seconds": 600, "clip_seconds": 20, "max_bytes": 320_000_000}
    with pytest.raises(BrokenContent, match="^audio needs more than 320000000 bytes to decode$"):
        process.decode(
            "audio", recording(tone(440, 20, rate), rate), max_seconds=20, max_bytes=320_000_000, options=options
        )


def test_a_file_that_crashes_its_decoder_twice_is_refused_and_a_process_that_died_is_replaced():
    decode(picture())
    os.kill(process.process_id(), signal.SIGKILL)
    assert decode(picture()).shape == (64, 64, 3)
    slow, done = jpeg_of_scans(2_000, (2_000, 1_500)), threading.Event()

    def kill():
        while not done.wait(0.05):
            with contextlib.suppress(ProcessLookupError, TypeError):
                os.kill(process.process_id(), signal.SIGSEGV)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(BrokenContent, match="^image crashes its decoder$"):
            decode(slow, max_seconds=30, max_scans=10**9)
    except RuntimeError:  # it was killed while it started
        pass
    finally:
        done.set()
        killer.join()
    assert decode(picture()).shape == (64, 64, 3)


def test_mistakes_and_missing_packages_are_errors_and_not_rejected_rows(monkeypatch):
    with pytest.raises(RuntimeError, match="process that decodes media failed with TypeError: .*no_such_option"):
        decode(picture(), no_such_option=1)
    with pytest.raises(ImportError, match="soundfile is not installed"):
        process._array({"missing": "soundfile", "error": "soundfile is not installed"}, bytearray())

    process._close()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="process that decodes media ended with status 1 when it started"):
        decode(picture())


def test_messages_are_bounded_and_a_closed_connection_is_noticed():
    ours, theirs = socket.socketpair()
    messages.send(ours, {"a": 1}, b"12345")

    assert messages.receive(theirs, most=5) == ({"a": 1}, bytearray(b"12345"))
    theirs.sendall(struct.pack(">IQ", 2, 6) + b"{}")
    with pytest.raises(OSError, match="larger than allowed"):
        messages.receive(ours, most=5)
    theirs.close()
    ours.recv(2)
    with pytest.raises(EOFError, match="closed the connection"):
        messages.receive(ours, most=5)
    ours.close()


FORK = """
import os
from qarm_features.decoding import process
from tests.decoding.media_files import picture
options = {"max_pixels": 10**6, "max_scans": 64, "max_bytes": 10**7, "size": [8, 8]}
def decode():
    return process.decode("image", picture(), max_seconds=10, max_bytes=10**7, options=options).shape
decode()
of_the_parent = process.process_id()
pid = os.fork()
assert decode() == (8, 8, 3)
assert (process.process_id() == of_the_parent) == (pid > 0)
if pid == 0:
    process._close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert decode() == (8, 8, 3)
print(of_the_parent)
"""


def test_a_fork_has_a_process_of_its_own_and_none_is_left_behind():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip

    assert done.stderr == ""
    assert not Path(f"/proc/{done.stdout.strip()}").exists()
