"""Which jobs still have to run: a job is current while nothing that it reads or depends on has changed.

In: a job and the settings. Out: the state of all its inputs. The state at the last success is kept in
``<artifacts>/runs/<job>.json``. No Spark is needed to find out that there is nothing to do.
"""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

from qarm_features import __version__
from qarm_features.jobs.job import Counts, Job
from qarm_features.jobs.states import UNKNOWN, Place, state_of
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import write_json
from qarm_features.storage.objects import AnyPath
from qarm_features.storage.tables import TABLES

_MAY_BE_MISSING = {table.name for table in TABLES if not table.always_written}


def inputs(job: Job[...], settings: Settings) -> dict[str, Any]:
    """Returns the state of everything that a job's result depends on: code, settings, sources, tables, artifacts."""
    content = settings.model_dump(mode="json")
    state: dict[str, Any] = {"code": __version__}
    for name in job.settings:
        state[f"setting {name}"] = reduce(lambda part, key: part[key], name.split("."), content)
    state |= {str(name): state_of(name, settings) for name in _ours(job.reads)}
    state |= job.extra_inputs(settings)
    plain: dict[str, Any] = json.loads(json.dumps(state))
    return plain


def last_run(job: Job[...], settings: Settings) -> dict[str, Any] | None:
    """Returns the record of a job's last success; None if there is none, or if its output no longer exists."""
    file = _record_file(job, settings)
    written = [name for name in _ours(job.writes) if str(name) not in _MAY_BE_MISSING]
    if not file.is_file() or any(state_of(name, settings) is None for name in written):
        return None
    record: dict[str, Any] = json.loads(file.read_text())
    return record


def is_current(job: Job[...], settings: Settings) -> bool:
    """Returns True if the inputs of a job's last success are the present ones; a remote input never counts as equal."""
    return changed_inputs(job, settings) == ()


def changed_inputs(job: Job[...], settings: Settings) -> tuple[str, ...] | None:
    """Returns the names of what has changed since a job's last success, None if there is none.

    A remote input may always have changed.
    """
    last = last_run(job, settings)
    if last is None:
        return None
    now, before = inputs(job, settings), last["inputs"]
    changed = [name for name, value in now.items() if value == UNKNOWN or before.get(name) != value]
    return (*changed, *(name for name in before if name not in now))


def record_run(job: Job[...], settings: Settings, seen: dict[str, Any], counts: Counts, seconds: float) -> None:
    """Writes the record of a success.

    Args:
        job: Job that ran.
        settings: Settings of the project.
        seen: Inputs from before the run. What the job both reads and writes is recorded as it is after the run.
        counts: Row counts of the run.
        seconds: Duration of the run.
    """
    own = {str(name): state_of(name, settings) for name in set(_ours(job.reads)) & set(job.writes)}
    write_json(_record_file(job, settings), {"inputs": {**seen, **own}, "seconds": seconds, **counts._asdict()})


def _ours(names: tuple[str | Place, ...]) -> list[str | Place]:
    """Returns the names without those of the user's own things, which ``extra_inputs`` covers."""
    return [name for name in names if not str(name).startswith("your ")]


def _record_file(job: Job[...], settings: Settings) -> AnyPath:
    return settings.artifacts_path / "runs" / f"{job.name}.json"
