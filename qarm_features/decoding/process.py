"""Decode a file of a stranger in another process, so that no file can hold, crash or fill the process that asks.

In: bytes, and what to make of them. Out: an array, or the reason why the file was refused. The other process starts with the
first file and is kept for the next ones. It is ended when a file exceeds its limits, and a new one takes its place.

A limit of time inside one process would not do: a decoder written in C does not return to Python in the middle of a file.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import numpy as np

from qarm_features.decoding.broken_content import BrokenContent
from qarm_features.decoding.messages import receive, send

_SECONDS_TO_START = 120.0
_RUN = "import sys; sys.path[:] = {path!r}; from qarm_features.decoding.child import main; main({descriptor})"
# Threads would each reserve memory, and a task of Spark has the processor time of one. Up to 64 MB are kept for the next
# picture; to give them back and to ask for them again would cost more time than decoding a small one.
_ENVIRONMENT = {
    **{name: "1" for name in ("MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")},
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}


class DecodingProcess:
    """Hold a running decoding process.

    Attributes:
        pid: Number of the process.

    Raises:
        RuntimeError: The process does not start.
    """

    def __init__(self) -> None:
        self._connection, others = socket.socketpair()
        code = _RUN.format(path=sys.path, descriptor=others.fileno())
        with others:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[others.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
            )
        self.pid = self._process.pid
        try:
            self._connection.settimeout(_SECONDS_TO_START)
            receive(self._connection, most=0)
        except (EOFError, OSError):
            raise RuntimeError(
                f"The process that decodes media ended with status {self.end()} when it started. Its error is in the log "
                "of this process."
            ) from None

    def ask(
        self, request: dict[str, Any], content: bytes, *, seconds: float, most: int
    ) -> tuple[dict[str, Any], bytearray]:
        """Send a request and wait for the reply.

        Args:
            request: Task, limits and options.
            content: Bytes of a file.
            seconds: Longest time to wait, in seconds.
            most: Greatest number of bytes of the reply.

        Returns:
            The reply and its bytes.

        Raises:
            EOFError: The process ended.
            OSError: The process ended, does not answer in time (``TimeoutError``) or answers with too many bytes.
        """
        self._connection.settimeout(seconds)
        send(self._connection, request, content)
        return receive(self._connection, most=most)

    def end(self) -> int:
        """End the process, and return its status: minus the number of the signal that had ended it."""
        self._connection.close()
        try:
            return self._process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


_lock = threading.Lock()
_running: list[DecodingProcess] = []  # none or one
_of_the_parent: list[DecodingProcess] = []  # copies in a fork, which are never used or ended


def decode(
    task: str, content: bytes, *, max_seconds: float, max_bytes: int, options: dict[str, Any] | None = None
) -> np.ndarray:
    """Decode a file in the decoding process.

    Args:
        task: ``image`` or ``audio``, also the first word of a reason.
        content: Bytes of the file.
        max_seconds: Longest processor time in seconds. The time on the clock may be ten times as long and a minute more.
        max_bytes: Greatest number of bytes that decoding may need, the file itself not counted. On other systems than
            Linux only what the header announces is compared with it.
        options: Further arguments of ``decode_pixels`` or ``decode_sound``, as JSON.

    Returns:
        The decoded array.

    Raises:
        BrokenContent: The file is refused, exceeds a limit, or crashes its decoder twice.
        ImportError: A package that decodes is not installed.
        RuntimeError: The process does not start, or this package has a mistake.
    """
    request = {"task": task, "max_seconds": max_seconds, "max_bytes": max_bytes, "options": options or {}}
    with _lock:
        for _ in range(2):  # the system may have ended an innocent process to get memory
            if not _running:
                _running.append(DecodingProcess())
            try:
                reply, body = _running[0].ask(request, content, seconds=60 + 10 * max_seconds, most=max_bytes)
            except (EOFError, OSError) as error:
                status = _running.pop().end()
                if status == -signal.SIGPROF or isinstance(error, TimeoutError):
                    raise BrokenContent(f"{task} takes more than {max_seconds:g} seconds to decode") from None
                continue
            except BaseException:  # Ctrl-C: the reply would be taken for that of the next file
                _running.pop().end()
                raise
            if reply.get("grown"):
                _running.pop().end()
            return _array(reply, body)
    raise BrokenContent(f"{task} crashes its decoder")


def process_id() -> int | None:
    """Return the number of the decoding process, or None if none is running."""
    return _running[0].pid if _running else None


def _array(reply: dict[str, Any], body: bytearray) -> np.ndarray:
    if "reason" in reply:
        raise BrokenContent(reply["reason"])
    if "missing" in reply:
        raise ImportError(reply["error"], name=reply["missing"])
    if "error" in reply:
        raise RuntimeError(f"The process that decodes media failed with {reply['error']}")
    return np.frombuffer(body, reply["dtype"]).reshape(reply["shape"])


def _close() -> None:
    while _running:
        _running.pop().end()


def _forget() -> None:
    """Leave the process to the parent after a fork; two processes must not speak over one connection."""
    global _lock
    _lock = threading.Lock()
    while _running:
        _of_the_parent.append(_running.pop())
        _of_the_parent[-1]._connection.close()


atexit.register(_close)
os.register_at_fork(after_in_child=_forget)
