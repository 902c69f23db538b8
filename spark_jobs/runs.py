"""Which jobs still have to run: a job is current while nothing that it reads or depends on has changed.

In: a job and the settings. Out: the state of all its inputs; that of the last success is kept in
``<artifacts>/runs/<job>.json``. No Spark is needed to find out that there is nothing to do.
"""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

from qarm_features import __version__
from qarm_features.artifacts import Artifacts, write_json
from qarm_features.settings import Settings
from qarm_features.settings_sections import Source
from qarm_features.tables import TABLES
from qarm_features.warehouse import Warehouse
from spark_jobs.session import Counts, Job

_TABLES = {table.name: table for table in TABLES}


def inputs(job: Job, settings: Settings) -> dict[str, Any]:
    """Returns the state of all that a job's result depends on: code, settings, sources, tables, artifacts."""
    content = settings.model_dump(mode="json")
    state = {"code": __version__, "project": settings.path(".")}
    state |= {f"setting {name}": reduce(lambda part, key: part[key], name.split("."), content) for name in job.settings}
    state |= {name: _state(name, settings) for name in job.reads if not name.startswith("your ")}
    if job.name == "ingest_catalog":
        state |= {s.path or s.table: _source_state(settings, s) for s in (settings.items, settings.interactions)}
    return json.loads(json.dumps(state))


def last_run(job: Job, settings: Settings) -> dict[str, Any] | None:
    """Returns the record of a job's last success, or None when it has none or what it wrote is gone."""
    record = _record(job, settings)
    written = all(_state(name, settings) is not None for name in job.writes)
    return json.loads(record.read_text()) if record.is_file() and written else None


def is_current(job: Job, settings: Settings) -> bool:
    """Tells whether a job's last success saw the inputs as they are now. Rows of a remote table may always be new."""
    now, last = inputs(job, settings), last_run(job, settings)
    return last is not None and last["inputs"] == now and "unknown" not in now.values()


def record_run(job: Job, settings: Settings, seen: dict[str, Any], counts: Counts, seconds: float) -> None:
    """Keeps what a successful run saw before it began and did. What it both reads and writes is taken as it left it."""
    own = {name: _state(name, settings) for name in set(job.reads) & set(job.writes)}
    write_json(_record(job, settings), {"inputs": {**seen, **own}, "seconds": seconds, **counts._asdict()})


def _record(job: Job, settings: Settings) -> Path:
    return settings.artifacts_path / "runs" / f"{job.name}.json"


def _state(name: str, settings: Settings) -> Any:
    """A table's Delta version, or what is in an artifact's folder; None when there is nothing."""
    if not name.endswith("/"):
        return Warehouse.of(settings).version(_TABLES[name])
    if name in ("releases/", "report/", "evaluations/"):
        files = sorted((settings.artifacts_path / name).glob("*.json"))
        return [file.read_text() for file in files] or None
    latest = Artifacts(settings.artifacts_path, name.rstrip("/")).latest()
    return latest and [latest.version, latest.manifest["files"]]


def _source_state(settings: Settings, source: Source) -> Any:
    if source.table or "://" in settings.path(source.path):
        return "unknown"
    path = Path(settings.path(source.path))
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]
