"""What training processes tell the people who wait for them: progress, warnings, and the error that ended a training.

In: calls inside the processes that a job, ``TorchDistributor`` or torchrun starts. Out: lines with a prefix on their stderr,
which the driver passes on. Nothing heavy is imported.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
TRAINING_LINE = "[training] "  # starts each line that the driver shows to people
TRAINING_ERROR = "[training error] "  # starts the line that says what ended a training process
BESIDE = "QARM_PROCESS_BESIDE"  # variable of the environment of a training process that a job starts itself
SECONDS_BETWEEN_LINES = 30.0
_PACKAGE = Path(__file__).parent.name
# These say too little to be shown as they are; a TrainingError repeats what a process said of itself.
_SAY_TOO_LITTLE = ("redis.", "psycopg", "sqlalchemy.", "sqlite3.", f"{_PACKAGE}.jobs.training_processes.TrainingError")


class EpochProgress:
    """Logs a line about every half minute inside an epoch, so that a log without a terminal shows that training goes on.

    Args:
        logger: Logger that receives the lines.
        epoch: Number of the epoch, from 0.
        epochs: Highest number of epochs.
        unit: Name of the things that are counted, for example ``"rows"``.
        total: Number of units in the epoch; None if it is not known.
        active: False for all processes but one, which then log nothing.
        seconds: Least number of seconds between two lines.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        epoch: int,
        epochs: int,
        unit: str,
        total: int | None,
        active: bool = True,
        seconds: float = SECONDS_BETWEEN_LINES,
    ) -> None:
        self.logger, self.epoch, self.epochs, self.unit, self.total = logger, epoch, epochs, unit, total
        self.active, self.seconds = active, seconds
        self.done = 0
        self.started = self.last_line = time.monotonic()

    def advance(self, units: int) -> None:
        """Counts finished units, and logs a line if the last one is long ago."""
        self.done += units
        now = time.monotonic()
        if not self.active or now - self.last_line < self.seconds:
            return
        self.last_line = now
        speed = self.done / (now - self.started)
        share = f" of {self.total:,}" if self.total else ""
        self.logger.info(
            "epoch %d (of at most %d): %s%s %s, %.0f %s/s%s",
            *(self.epoch, self.epochs, f"{self.done:,}", share, self.unit, speed, self.unit, self._left(speed)),
        )

    def _left(self, speed: float) -> str:
        if not self.total or speed <= 0:
            return ""
        return f", about {duration(max(0.0, self.total - self.done) / speed)} left in this epoch"


def left_at_most(epoch: int, epochs: int, seconds: float) -> str:
    """Returns how long the further epochs take at most, for the end of the line of a finished epoch.

    Args:
        epoch: Number of the finished epoch, from 0.
        epochs: Highest number of epochs; training may stop earlier.
        seconds: Duration of one epoch.

    Example:
        >>> left_at_most(0, 5, 30.0)
        ', at most 2 min 0 s left'
    """
    return f", at most {duration((epochs - 1 - epoch) * seconds)} left" if epoch < epochs - 1 else ""


def duration(seconds: float) -> str:
    """Returns a duration as people say it.

    Example:
        >>> duration(42.4), duration(130), duration(7500)
        ('42 s', '2 min 10 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def log_to_stderr() -> None:
    """Sends the log of this package to stderr in a training process, which starts without handlers.

    Does nothing in any other process, where the caller decides what is logged.
    """
    package = logging.getLogger("qarm_features")
    if {"TORCHELASTIC_RUN_ID", BESIDE} & os.environ.keys() and not package.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(_OneLine())
        package.addHandler(handler)
        package.setLevel(logging.INFO)


def tell_error(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Calls a function in a training process; an error that ends it is also told in one line that the driver can find.

    Args:
        function: Function that trains.
        args: Its arguments.
        kwargs: Its keyword arguments.
    """
    log_to_stderr()
    try:
        return function(*args, **kwargs)
    except Exception as error:
        kind, last = class_name(error), traceback.extract_tb(error.__traceback__)[-1]
        whose = "ours" if is_written_for_people(last.filename, last.line or "", kind) else "other"
        print(f"{TRAINING_ERROR}{whose} {kind}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        raise


def class_name(error: BaseException) -> str:
    """Returns the name of the class of an error with its module, without that of Python's own classes."""
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def is_written_for_people(file: str, code: str, kind: str) -> bool:
    """Returns True if this package raised an error on purpose, and so wrote its message for people.

    Args:
        file: Path of the source file whose line raised the error.
        code: That line.
        kind: Name of the class of the error, with its module.
    """
    return code.strip().startswith("raise ") and _PACKAGE in Path(file).parts and not kind.startswith(_SAY_TOO_LITTLE)


class _OneLine(logging.Formatter):
    """Formats a record as one line that the driver recognizes."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the prefix, the level if it is not INFO, and the message."""
        level = "" if record.levelno <= logging.INFO else f"{record.levelname}: "
        return f"{TRAINING_LINE}{level}{' '.join(record.getMessage().split())}"
