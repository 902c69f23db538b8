"""Processor seconds of this process and of all that it started, those that have ended included.

A parent is told what an ended child has used only if it waits for it. Spark's Python workers have a parent that does not, and
they end when they are idle for a minute. So every process is looked at again and again, and what it had used when it was last
seen stays counted.
"""

from __future__ import annotations

import contextlib
import threading

import psutil

_EVERY_SECONDS = 1.0


class ProcessorClock:
    """Counts processor seconds from its start on; it looks at the processes once a second, in a thread.

    Args:
        left_out: Number of a process that is not counted.
    """

    def __init__(self, left_out: int = 0) -> None:
        self._left_out, self._seen = left_out, dict[tuple[int, float], float]()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._own = psutil.Process()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def seconds(self) -> tuple[float, float]:
        """Return the seconds of all processes, and those of this process alone."""
        with self._lock:
            for process in [self._own, *self._own.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    if process.pid != self._left_out:
                        self._seen[process.pid, process.create_time()] = sum(process.cpu_times()[:2])
            return sum(self._seen.values()), sum(self._own.cpu_times()[:2])

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self.seconds()
