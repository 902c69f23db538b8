"""The training processes of a job, and the way of their lines to the people who wait.

In: a function that trains. Out: its return value. Progress and warnings reach the log of the job while the training runs; all
that the processes print is kept in ``logs/training.log`` of the project.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from qarm_features.jobs.context import JobContext
from qarm_features.jobs.process_beside import ProcessBeside
from qarm_features.settings.secrets import open_private, redacted
from qarm_features.training_log import TRAINING_ERROR, TRAINING_LINE, tell_error

log = logging.getLogger("qarm")


_KEPT_LINES = 1000  # The traceback of every process, and what torchrun adds to it.


class TrainingError(RuntimeError):
    """A training process ended with an error. The message is what it said, or else all that was printed last."""


class TrainingProcesses:
    """A launcher of training processes.

    One process runs beside the driver. Several processes run as Spark tasks, on GPUs if the cluster gives GPUs to tasks.

    Args:
        context: Context of the job.
        num_processes: Number of processes, at least 1.
    """

    def __init__(self, context: JobContext, num_processes: int) -> None:
        self.context, self.num_processes = context, num_processes
        self._loaded: ProcessBeside | None = None

    @contextlib.contextmanager
    def loading(self, load: Callable[..., object], **kwargs: Any) -> Iterator[None]:
        """Starts the process that ``run`` uses inside the context, if it is one, and lets it load what training needs.

        Args:
            load: Function or class of a module that the process calls at once, and whose result it drops.
            kwargs: Its keyword arguments.
        """
        if self.num_processes > 1:  # Spark starts these
            yield
            return
        with ProcessBeside(functools.partial(tell_error, load, **kwargs)) as self._loaded:
            try:
                yield
            finally:
                self._loaded = None

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls a function in every process, and returns what the first process returned.

        Raises:
            TrainingError: A process ended with an error, or was killed.
        """
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        log_file = self.context.settings.state_path / "logs" / "training.log"
        log_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self.num_processes == 1:
                with open_private(log_file) as file, contextlib.ExitStack() as ended:
                    passed_on = _Lines(file, lines, sys.stderr)
                    process, self._loaded = self._loaded or ended.enter_context(ProcessBeside()), None
                    return process.call(tell_error, function, *args, on_text=passed_on.write, **kwargs)
            with _lines_passed_on(log_file, lines):
                return self._distributor().run(tell_error, function, *args, **kwargs)
        except Exception as error:
            told = next((line for line in lines if line.startswith(TRAINING_ERROR)), None)
            raise TrainingError(told or "\n".join([str(error), *lines])) from error

    def _distributor(self) -> Any:
        from pyspark.ml.torch.distributor import TorchDistributor

        spark = self.context.spark  # TorchDistributor needs an active session.
        logging.getLogger("TorchDistributor").setLevel(logging.WARNING)
        gpus = float(spark.sparkContext.getConf().get("spark.task.resource.gpu.amount", "0"))
        return TorchDistributor(num_processes=self.num_processes, local_mode=False, use_gpu=gpus > 0)


@contextlib.contextmanager
def _lines_passed_on(log_file: Path, lines: deque[str]) -> Iterator[None]:
    """Reads what TorchDistributor prints in this process: it copies the lines of training to stdout or to stderr."""
    before = os.environ.get("PYTHONUNBUFFERED")
    os.environ["PYTHONUNBUFFERED"] = "1"  # Else a process between us and torchrun keeps the lines until the end.
    try:
        with (
            open_private(log_file) as file,
            contextlib.redirect_stdout(_Lines(file, lines, sys.stdout)),
            contextlib.redirect_stderr(_Lines(file, lines, sys.stderr)),
        ):
            yield
    finally:
        if before is None:
            del os.environ["PYTHONUNBUFFERED"]
        else:
            os.environ["PYTHONUNBUFFERED"] = before


class _Lines(io.TextIOBase):
    """A stream that writes all lines, without secrets, to a file, and passes those for people to the log.

    Args:
        file: File that gets every line.
        kept: The latest lines are added to it.
        stream: Stream that this one stands in for.
    """

    def __init__(self, file: TextIO, kept: deque[str], stream: TextIO) -> None:
        self.file, self.kept = file, kept
        # rich, which draws the spinner and writes our own lines, looks for this name and writes there.
        self.rich_proxied_file = getattr(stream, "rich_proxied_file", stream)
        self.rest = ""
        self.lock = threading.RLock()

    def writable(self) -> bool:
        """Returns True."""
        return True

    def write(self, text: str) -> int:
        """Takes a part of a line, or several lines."""
        with self.lock:
            *lines, self.rest = (self.rest + text).split("\n")
            for line in map(redacted, lines):
                self.file.write(line + "\n")
                self.file.flush()
                self.kept.append(line)
                if line.startswith(TRAINING_LINE):
                    said = line.removeprefix(TRAINING_LINE)
                    log.log(logging.WARNING if said.startswith("WARNING: ") else logging.INFO, "%s", said)
        return len(text)
