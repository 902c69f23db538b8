"""One run at a time in a project: a second one is told who runs already.

In: the settings, and what wants to run. Out: a block in which nobody else runs the same. The locks are held by the operating
system on files in ``locks`` of the project on this machine, so a process that is killed holds none. Where artifacts is a
URI, machines do not see the locks of each other: versions and releases are then kept apart by conditional writes and by the
publisher's lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from qarm_features.settings.load import Settings

_RUN = "run.lock"


class ProjectBusy(ValueError):
    """Another process runs in the project what must not run twice."""


@contextlib.contextmanager
def held_for_run(settings: Settings) -> Iterator[None]:
    """Holds a project for ``qarm run``: no other run and no single job may work there in the meantime.

    Raises:
        ProjectBusy: Another run or a single job works in the project. The message says which process, where, since when.
    """
    folder = _folder(settings)
    with _locked(folder / _RUN, "qarm run", folder):
        yield


@contextlib.contextmanager
def held_for_job(settings: Settings, job: str) -> Iterator[None]:
    """Holds a project for a single job: not the same job and no ``qarm run``, but other jobs may work in the meantime.

    Args:
        settings: Settings of the project.
        job: Name of the job.

    Raises:
        ProjectBusy: A run, or the same job, works in the project.
    """
    folder = _folder(settings)
    command = f"qarm {job.replace('_', '-')}"
    with (
        _locked(folder / _RUN, command, folder, shared=True),
        _locked(folder / f"{job}.lock", command, folder),
    ):
        yield


@contextlib.contextmanager
def held_besides(settings: Settings, command: str, jobs: Iterable[str]) -> Iterator[None]:
    """Holds other jobs of a project for a job that does their work: none of them may run in the meantime.

    Args:
        settings: Settings of the project.
        command: Command that holds them, for the error that others get.
        jobs: Names of the jobs.

    Raises:
        ProjectBusy: One of the jobs works in the project.
    """
    folder = _folder(settings)
    with contextlib.ExitStack() as held:
        for job in jobs:
            held.enter_context(_locked(folder / f"{job}.lock", command, folder))
        yield


def holders(settings: Settings) -> list[dict[str, str]]:
    """Returns the commands that work in a project now, each with ``command``, ``pid``, ``host`` and ``started``."""
    files = sorted((settings.state_path / "locks").glob("*.lock"))
    found = [holder for file in files if _is_held(file) and (holder := _read(file))]
    return list({holder["command"]: holder for holder in found}.values())


@contextlib.contextmanager
def _locked(path: Path, command: str, folder: Path, *, shared: bool = False) -> Iterator[None]:
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProjectBusy(_busy(path, folder)) from None
        if not shared:
            _write(file, command)
        try:
            yield
        finally:
            if not shared:
                file.truncate(0)


def _busy(path: Path, folder: Path) -> str:
    """Returns who holds a lock: the writer of its file, or else of the lock of a single job."""
    holders = [_read(one) for one in [path, *sorted(folder.glob("*.lock"))] if _is_held(one)]
    found = next((holder for holder in holders if holder), None)
    who = "Another command runs" if found is None else "{command} runs".format(**found)
    since = "" if found is None else " since {started} as process {pid} on {host}".format(**found)
    return f"{who} in this project{since}. Wait until it ends, or end it, and run the same command again."


def _is_held(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _read(path: Path) -> dict[str, str]:
    try:
        holder: dict[str, str] = json.loads(path.read_text())
    except ValueError:  # It holds a shared lock, or has not written yet.
        return {}
    return holder


def _write(file: IO[str], command: str) -> None:
    file.truncate(0)
    holder = {"command": command, "pid": os.getpid(), "host": socket.gethostname()}
    file.write(json.dumps(holder | {"started": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}))
    file.flush()


def _folder(settings: Settings) -> Path:
    folder = settings.state_path / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
