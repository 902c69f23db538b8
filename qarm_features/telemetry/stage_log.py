"""The log of all stages of a project: one JSON line per run, in one file per month.

In: runs that have ended. Out: ``<artifacts>/runs/stages-<year>-<month>.jsonl``, and the last runs of each stage. An object
cannot grow: in an object store each run is an object of its own, in ``runs/stages-<year>-<month>/``.
The batches of a follower, of which there are many, have a log of their own: ``follow-<year>-<month>``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qarm_features.settings.load import Settings
from qarm_features.storage.objects import AnyPath, ObjectPath
from qarm_features.telemetry.stage_run import StageRun

_BLOCK = 1 << 16
STAGES, BATCHES = "stages", "follow"


class LastRuns(NamedTuple):
    """What a stage did last.

    Attributes:
        last: The latest run, however it ended.
        success: The latest run that succeeded. None where none did.
    """

    last: StageRun
    success: StageRun | None


def append_run(settings: Settings, run: StageRun, *, log: str = STAGES) -> None:
    """Add a run to a log. Several processes may do so at the same time."""
    folder = _folder(settings)
    if isinstance(folder, ObjectPath):
        ended = run.ended_at or run.started_at
        name = f"{ended:%Y%m%dT%H%M%S.%f}-{run.run_id}.json"
        (folder / f"{log}-{ended:%Y-%m}" / name).write_bytes(run.to_line().encode("utf-8", "backslashreplace"))
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(
        folder / f"{log}-{run.started_at:%Y-%m}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
    )
    try:
        os.write(file, f"{run.to_line()}\n".encode("utf-8", "backslashreplace"))
    finally:
        os.close(file)


def runs_backwards(settings: Settings, *, log: str = STAGES) -> Iterator[StageRun]:
    """Yield all runs of a log, the latest first. A line that a killed process did not finish is left out."""
    for line in _all_lines_backwards(_folder(settings), log):
        try:
            run = StageRun.from_line(line.decode())
        except (ValueError, TypeError):
            continue
        yield run


def last_runs(settings: Settings, stages: set[str] | None = None) -> dict[str, LastRuns]:
    """Return what each stage did last. The log is read only as far back as it must be.

    Args:
        settings: Settings of the project.
        stages: Names of the jobs; None for all. One that never ran is not in the result.
    """
    found: dict[str, LastRuns] = {}
    for run in runs_backwards(settings):
        known = found.get(run.stage)
        success = run if run.state == "succeeded" else None
        if (stages is None or run.stage in stages) and (known is None or known.success is None):
            found[run.stage] = LastRuns(run if known is None else known.last, success)
        if stages is not None and len(found) == len(stages) and all(one.success for one in found.values()):
            break
    return found


def _all_lines_backwards(folder: AnyPath, log: str) -> Iterator[bytes]:
    if isinstance(folder, ObjectPath):
        for month in reversed([name for name in folder.folders() if name.startswith(f"{log}-")]):
            yield from (path.read_bytes() for path in sorted((folder / month).glob("*.json"), reverse=True))
        return
    for file in sorted(folder.glob(f"{log}-*.jsonl"), reverse=True):
        yield from _lines_backwards(file)


def _lines_backwards(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as opened:
        position, rest = opened.seek(0, os.SEEK_END), b""
        while position:
            step = min(_BLOCK, position)
            position -= step
            opened.seek(position)
            first, *lines = (opened.read(step) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            rest = first
        if rest:
            yield rest


def _folder(settings: Settings) -> AnyPath:
    return settings.artifacts_path / "runs"
