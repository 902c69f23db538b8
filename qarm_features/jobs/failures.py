"""One clear line for any error of a job: what happened, in which file, and what to do.

In: an exception of Spark, of a Python worker, of a training process, of an online store, or of this program. Out: one line
for people, and the full traceback in a file. Nothing heavy is imported: errors are known by their text and their class.
"""

from __future__ import annotations

import re
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from qarm_features.jobs.known_failures import first_sentence, sentence_for
from qarm_features.settings.load import load_settings
from qarm_features.settings.secrets import open_private, redacted
from qarm_features.training_log import TRAINING_ERROR, class_name, is_written_for_people

_FRAME = re.compile(r'\s*File "([^"]+)", line \d+')
_ENDS_TRACEBACK = re.compile(r"([A-Za-z_][\w.]*)(?:: (.*))?$")
_OF_TRAINING = re.compile(rf"{re.escape(TRAINING_ERROR)}(ours|other) ([\w.]+): (.*)")


class Raised(NamedTuple):
    """An error where it was raised, which may be another process.

    Attributes:
        kind: Name of its class, with its module where that is known.
        message: Its message.
        ours: True if this package raised it for people to read.
    """

    kind: str
    message: str
    ours: bool


def one_line(error: BaseException) -> str:
    """Returns one line that says what an error means and what to do.

    A message that this package wrote is returned unchanged; it may have a line for each of several wrong settings.

    Example:
        >>> one_line(OSError(28, "No space left on device", "/data/x"))
        "The disk is full (OSError: [Errno 28] No space left on device: '/data/x'). Free space or move the folder, and run the same command again."
    """  # noqa: E501  the example shows the line as it is printed
    return _line_of(*_read(error))


def needs_traceback(error: BaseException) -> bool:
    """Returns False for a message that this package wrote for people, which says all that there is to say."""
    return not _read(error)[0].ours


def report(error: BaseException, arguments: Sequence[str]) -> str:
    """Writes the traceback of an error into a file if somebody may need it, and returns the line for people.

    Args:
        error: Error that ended the command.
        arguments: Arguments of the command, which may name the settings of the project by ``--config``.
    """
    raised, text = _read(error)
    line = _line_of(raised, text)
    if raised.ours:
        return line
    end = "" if line.endswith((".", "!", "?")) else "."
    return f"{line}{end} The full traceback is in {write_traceback(error, _log_folder(arguments))}"


def write_traceback(error: BaseException, folder: Path) -> Path:
    """Writes the full traceback into a new file of a folder, or of the system's temporary folder, and returns its path."""
    full = traceback_text(error)
    name = f"error-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / name, full)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="qarm-"))
        _write(folder / name, full)
    return folder / name


def traceback_text(error: BaseException) -> str:
    """Returns the full traceback of an error without the secrets that this process knows."""
    return redacted("".join(traceback.format_exception(error)))


def _write(file: Path, text: str) -> None:
    with open_private(file) as opened:
        opened.write(text)


def _log_folder(arguments: Sequence[str]) -> Path:
    """Returns ``logs`` of the project that the arguments name, or else a temporary folder."""
    config = "qarm.yaml"
    for number, argument in enumerate(arguments):
        if argument.startswith("--config="):
            config = argument.partition("=")[2]
        elif argument == "--config" and number + 1 < len(arguments):
            config = arguments[number + 1]
    try:
        return load_settings(config).state_path / "logs"
    except Exception:  # The settings may be what is wrong.
        return Path(tempfile.gettempdir())


def _read(error: BaseException) -> tuple[Raised, str]:
    """Returns the error at the place where it was raised, and all that it says."""
    text = _text(error)
    return _raised(error, text), text


def _line_of(raised: Raised, text: str) -> str:
    if raised.ours:
        return raised.message
    short = _short(raised)
    return sentence_for(f"{raised.kind}: {raised.message}\n{text}", short) or short


def _text(error: BaseException) -> str:
    """Returns all that an error says, with what the JVM and other processes said; empty if even that fails."""
    try:
        return redacted(str(error)).partition("\n\nJVM stacktrace:")[0]
    except Exception:  # Py4J asks the JVM for the text, and the JVM may be gone.
        return ""


def _raised(error: BaseException, text: str) -> Raised:
    """Returns the error at the place where it was raised: a training process, a Python worker, or this process."""
    found = _OF_TRAINING.search(text)
    if found:
        return Raised(found[2], found[3], found[1] == "ours")
    if "Traceback (most recent call last)" in text:
        return _raised_in_worker(text)
    return raised_here(error, text)


def raised_here(error: BaseException, text: str | None = None) -> Raised:
    """Returns an error of this process; ``text`` is its message where that is known already."""
    kind = class_name(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = bool(frames) and is_written_for_people(frames[-1].filename, frames[-1].line or "", kind)
    # The command line names the extra of a missing package, wherever its import failed.
    return Raised(kind, redacted(str(error)) if text is None else text, ours or isinstance(error, ImportError))


def _raised_in_worker(text: str) -> Raised:
    """Returns the error at the end of the last Python traceback in a text."""
    lines = text[text.rindex("Traceback (most recent call last)") :].splitlines()
    file = code = ""
    for number, line in enumerate(lines):
        if place := _FRAME.match(line):
            file, code = place[1], lines[number + 1] if number + 1 < len(lines) else ""
        elif file and (found := _ENDS_TRACEBACK.match(line)):
            return Raised(found[1], found[2] or "", is_written_for_people(file, code, found[1]))
    return Raised("PythonException", lines[-1], False)


def _short(raised: Raised) -> str:
    """Returns the message of an error in one line, with its class unless that says nothing."""
    message, kind = first_sentence(raised.message), raised.kind.rpartition(".")[2]
    if message and kind in ("ValueError", "AnalysisException", "PythonException"):
        return message
    return f"{kind}: {message}".rstrip(": ")
