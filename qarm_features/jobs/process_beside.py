"""One process beside the driver that calls a function, so that its memory and its faults are not those of the driver.

In: a function with its arguments. Out: what it returns, and the lines that it prints while it runs. torchrun would do the
same for one process, but it loads torch once more for itself, which takes seconds. The process can start before there is
anything to call, and load meanwhile what the call needs.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from qarm_features.training_log import BESIDE

_LOAD, _CALL, _ANSWER = "load.pickle", "call.pickle", "answer.pickle"
_GO = b"\n"  # on stdin: the call is written


class ProcessBeside:
    """A new process that takes one call. At the end of the context it is ended if it still runs.

    Args:
        load: Function that the process calls before the call comes, without arguments; it can be pickled. Its result is
            dropped, and an error in it ends the process as one in the call does. None loads nothing.

    Example::

        with ProcessBeside() as process:
            length = process.call(len, "abc", on_text=print)
    """

    def __init__(self, load: Callable[[], object] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="qarm-process-")  # only this user may read it
        if load is not None:
            (Path(self._folder.name) / _LOAD).write_bytes(pickle.dumps(load))
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __spec__.name, self._folder.name],
            stdin=subprocess.PIPE,  # its end tells the process that the driver is gone
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", BESIDE: "1"},
        )

    def __enter__(self) -> ProcessBeside:
        """Returns the process."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def call(self, function: Callable[..., Any], *args: Any, on_text: Callable[[str], object], **kwargs: Any) -> Any:
        """Calls a function of a module in the process, and returns what it returns. A process takes one call.

        Args:
            function: Function that can be imported by its name.
            args: Its arguments, which can be pickled.
            on_text: Called with each line that the process prints and printed before, on stdout or on stderr.
            kwargs: Its keyword arguments, which can be pickled.

        Raises:
            CalledProcessError: The process ended without an answer: with an error, whose traceback it printed, or by a
                signal.
        """
        folder, process = Path(self._folder.name), self._process
        assert process.stdin is not None and process.stdout is not None  # they are pipes
        (folder / _CALL).write_bytes(pickle.dumps((function, args, kwargs)))
        with contextlib.suppress(BrokenPipeError):  # it ended while it loaded, and printed why
            os.write(process.stdin.fileno(), _GO)
        for line in process.stdout:
            on_text(line.decode("utf-8", "replace"))
        subprocess.CompletedProcess(process.args, process.wait()).check_returncode()
        return pickle.loads((folder / _ANSWER).read_bytes())


def answer(folder: Path) -> None:
    """Loads, waits for the call, calls the function, and writes what it returns. It is the whole work of the process."""
    called = threading.Event()
    threading.Thread(target=_watch_the_driver, args=(called,), daemon=True).start()
    if (folder / _LOAD).is_file():
        pickle.loads((folder / _LOAD).read_bytes())()
    called.wait()
    function, args, kwargs = pickle.loads((folder / _CALL).read_bytes())
    (folder / _ANSWER).write_bytes(pickle.dumps(function(*args, **kwargs)))


def _watch_the_driver(called: threading.Event) -> None:
    """Tells when the call is written, and ends the process when the system closes the stdin of a driver that was killed."""
    while os.read(0, 1):  # sys.stdin would hold a lock of Python at the end of the process
        called.set()
    os._exit(1)


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
