"""One process beside the driver that calls a function, so that its memory and its faults are not those of the driver.

In: a function with its arguments. Out: what it returns, and the lines that it prints while it runs. torchrun would do the
same for one process, but it loads torch once more for itself, which takes seconds.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qarm_features.training_log import BESIDE

_CALL, _ANSWER = "call.pickle", "answer.pickle"


def call_beside(function: Callable[..., Any], *args: Any, on_text: Callable[[str], object], **kwargs: Any) -> Any:
    """Calls a function of a module in a new process, and returns what it returns.

    Args:
        function: Function that can be imported by its name.
        args: Its arguments, which can be pickled.
        on_text: Called with each line that the process prints, on stdout or on stderr.
        kwargs: Its keyword arguments, which can be pickled.

    Raises:
        CalledProcessError: The process ended without an answer: with an error, whose traceback it printed, or by a signal.
    """
    with tempfile.TemporaryDirectory(prefix="qarm-process-") as name:  # only this user may read it
        folder = Path(name)
        (folder / _CALL).write_bytes(pickle.dumps((function, args, kwargs)))
        paths = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __spec__.name, str(folder)],
            stdin=subprocess.PIPE,  # never written to: its end tells the process that the driver is gone
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", BESIDE: "1"},
            encoding="utf-8",
            errors="replace",
        )
        try:
            assert process.stdout is not None  # it is a pipe
            for line in process.stdout:
                on_text(line)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        subprocess.CompletedProcess(process.args, code).check_returncode()
        return pickle.loads((folder / _ANSWER).read_bytes())


def answer(folder: Path) -> None:
    """Calls the function of a call, and writes what it returns. It is the whole work of the process."""
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    function, args, kwargs = pickle.loads((folder / _CALL).read_bytes())
    (folder / _ANSWER).write_bytes(pickle.dumps(function(*args, **kwargs)))


def _end_with_the_driver() -> None:
    """Waits until the other end of stdin is closed, which the system does for a driver that was killed, and ends."""
    while os.read(0, 1):  # sys.stdin would hold a lock of Python at the end of the process
        pass
    os._exit(1)


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
