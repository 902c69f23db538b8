"""Run in the decoding process: take bytes, decode them within limits of time and memory, and give back an array.

In: messages whose object names the task and its options, and whose bytes are a file. Out: for each of them a message with an
array, or with the reason why the file was refused. The system ends this process when a file takes too much processor time,
in the middle of a decoder too; the other side then starts a new one.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from qarm_features.decoding.broken_content import BrokenContent
from qarm_features.decoding.messages import receive, send
from qarm_features.decoding.pictures import decode_pixels
from qarm_features.decoding.sound import decode_sound

TASKS: dict[str, Callable[..., np.ndarray]] = {"image": decode_pixels, "audio": decode_sound}
_LARGEST_FILE = 1 << 40  # the other side has checked max_media_bytes
_SPARE_BYTES = 64 << 20  # for all that is not the decoded content, such as code that is loaded on first use
_GROWTH = 128 << 20


def main(descriptor: int) -> None:
    """Serve until the other side closes the connection.

    Args:
        descriptor: Number of the socket's open file.
    """
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the other side, which closes the connection
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):  # it has nothing to write
        resource.setrlimit(limit, (0, 0))
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(EOFError, ConnectionError):
        send(connection, {"ready": True})
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)  # decoders write warnings about damaged files
        at_start = used = _address_space()
        while True:
            request, content = receive(connection, most=_LARGEST_FILE)
            reply, array = _answer(request, bytes(content), used)
            del content
            used = _address_space()
            reply["grown"] = used > at_start + _GROWTH
            send(connection, reply, b"" if array is None else array.data.cast("B"))


def _answer(request: dict[str, Any], content: bytes, used: int) -> tuple[dict[str, Any], np.ndarray | None]:
    task, max_bytes = request["task"], request["max_bytes"]
    try:
        with _within(seconds=request["max_seconds"], num_bytes=used + max_bytes + 2 * len(content)):
            array = np.ascontiguousarray(TASKS[task](content, **request["options"]))
        return {"shape": array.shape, "dtype": array.dtype.name}, array if array.size else None
    except BrokenContent as error:
        return {"reason": str(error)}, None
    except MemoryError:
        return {"reason": f"{task} needs more than {max_bytes} bytes to decode"}, None
    except ImportError as error:
        return {"missing": error.name, "error": str(error)}, None
    except Exception as error:  # a mistake in this package, which the other side reports
        return {"error": f"{type(error).__name__}: {error}"}, None


@contextlib.contextmanager
def _within(*, seconds: float, num_bytes: int) -> Iterator[None]:
    """Limit processor time, at the end of which the system ends this process, and memory, for the body of a ``with``."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    whole = num_bytes + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (whole if hard == resource.RLIM_INFINITY else min(whole, hard), hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal, SIGPROF, ends a process that does not handle it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _address_space() -> int:
    """Return the size of the address space in bytes, or 1 TB where the system does not say it, so that nothing is limited."""
    try:
        with open("/proc/self/statm", "rb") as stream:
            return int(stream.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 40
