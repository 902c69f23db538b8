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
from qarm_features.jobs.session import Counts, Job
from qarm_features.settings.load import Settings
from qarm_features.settings.sections import Source
from qarm_features.storage.artifacts import Artifacts, write_json
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, TABLES
from qarm_features.storage.warehouse import Warehouse

_NOT_OF_THE_ROWS = ("state", "verified", "promotions", "retired")
_TABLES = {table.name: table for table in TABLES}


def inputs(job: Job, settings: Settings) -> dict[str, Any]:
    """Returns the state of all that a job's result depends on: code, settings, sources, tables, artifacts."""
    content = settings.model_dump(mode="json")
    state = {"code": __version__, "project": settings.path(".")}
    state |= {f"setting {name}": reduce(lambda part, key: part[key], name.split("."), content) for name in job.settings}
    state |= {name: _state(name, settings) for name in job.reads if not name.startswith("your ")}
    state |= _of_your_own(job.name, settings)
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
    if name == "releases/":
        return _promoted_release(settings)
    if name in ("report/", "evaluations/"):
        files = sorted((settings.artifacts_path / name).glob("*.json"))
        return [file.read_text() for file in files] or None
    latest = Artifacts(settings.artifacts_path, name.rstrip("/")).latest()
    return latest and [latest.version, latest.manifest["files"]]


def _promoted_release(settings: Settings) -> Any:
    """What readers get, and not who verified or promoted it when; None when there is nothing."""
    folder = settings.artifacts_path / "releases"
    if not (folder / "promoted.json").is_file():
        return None
    version = json.loads((folder / "promoted.json").read_text())["codebook_version"]
    release = json.loads((folder / f"cb{version}.json").read_text())
    release["views"] = {name: rows for name, rows in release.get("views", {}).items() if "__cb" in name}  # codes alone
    return {key: value for key, value in release.items() if key not in _NOT_OF_THE_ROWS}


def _of_your_own(job_name: str, settings: Settings) -> dict[str, Any]:
    """Returns the state of what a job reads beside our tables: the user's files, and tables that settings ask for."""
    if job_name == "ingest_catalog":
        sources = {source.path or source.table: source for source in (settings.items, settings.interactions)}
        states = {name: _source_state(settings, source) for name, source in sources.items()}
        return states | {f"media under {root}": _files_in_all(settings.path(root)) for root in _media_roots(settings)}
    if job_name == "mine_item_pairs" and (vectors := settings.item_pairs.item_vectors):
        return {vectors: _path_state(settings.path(vectors))}
    if job_name == "publish_features":
        of = settings.publishing
        tables = [ITEM_EMBEDDINGS] * of.embeddings + [ITEM_NEAREST_ITEMS] * of.nearest_items
        states = {table.name: Warehouse.of(settings).version(table) for table in tables}
        users = of.user_embeddings
        return states | ({users.path or users.table: _source_state(settings, users)} if users else {})
    return {}


def _media_roots(settings: Settings) -> list[str]:
    """Returns the folders in which media of the catalog may be files that somebody edits."""
    by_uri = settings.items.image or settings.items.audio
    return [root for root in settings.encoder.media_roots if by_uri and "://" not in root]


def _files_in_all(folder: str) -> list[int]:
    """Returns count, bytes and the sum of the times of change of all files: a look at each, and no list of them."""
    count = size = times = 0
    for path in Path(folder).rglob("*"):
        status = path.stat(follow_symlinks=False)
        count, size, times = count + 1, size + status.st_size, times + status.st_mtime_ns
    return [count, size, times]


def _source_state(settings: Settings, source: Source) -> Any:
    return "unknown" if source.table else _path_state(settings.path(source.path))


def _path_state(place: str) -> Any:
    if "://" in place:
        return "unknown"
    path = Path(place)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]
