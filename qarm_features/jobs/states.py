"""The state of each thing that a job can read or write: two equal states mean that nothing changed in between.

In: settings, and the name of a table, a kind of artifact, a source or a folder. Out: plain values that JSON can hold, or
None if the thing does not exist. No Spark is needed.
"""

from __future__ import annotations

import glob
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from qarm_features.catalog.reading.some_files import folder_of, looks_like_pattern
from qarm_features.settings.load import Settings
from qarm_features.settings.sources import Source
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.object_stores import ObjectStoreError
from qarm_features.storage.objects import AnyPath, ObjectPath
from qarm_features.storage.tables import TABLE_BY_NAME, Table
from qarm_features.storage.warehouse import Warehouse

log = logging.getLogger("qarm")
UNKNOWN = "unknown"  # State of a remote place: its rows may have changed, so a job that reads it is never current.
_NOT_IN_THE_ROWS = (
    "state",
    "verified",
    "promotions",
    "retired",
    "moved_at",
)  # Parts of a release record that readers do not get.


@dataclass(frozen=True)
class Place:
    """A folder of artifacts that has no numbered versions.

    Args:
        name: Name of the folder, with a slash at its end.
        state: Function that returns the state of the folder, or None while it holds nothing.
    """

    name: str
    state: Callable[[Settings], Any]

    def __str__(self) -> str:
        """Returns the name, as it is shown to people and used in the records of runs."""
        return self.name


def state_of(name: str | Place, settings: Settings) -> Any:
    """Returns the state of a table, of a kind of artifact (its name ends with a slash), or of a place."""
    if isinstance(name, Place):
        return name.state(settings)
    if not name.endswith("/"):
        return table_state(TABLE_BY_NAME[name], settings)
    latest = Artifacts(settings.artifacts_path, name.rstrip("/")).latest()
    return latest and [latest.version, latest.manifest["files"]]


def table_state(table: Table, settings: Settings) -> int | None:
    """Returns the newest Delta version of a table that may have changed its rows."""
    return Warehouse(settings.warehouse_path, **settings.id_types).data_version(table)


def source_states(*sources: Source, settings: Settings) -> dict[str, Any]:
    """Returns the state of the user's sources, by path or by name of the table in Spark's catalog."""
    states: dict[str, Any] = {}
    for source in sources:
        if source.path:
            states[source.path] = path_state(settings.path(source.path))
        elif source.table:
            states[source.table] = UNKNOWN
    return states


def path_state(place: str) -> Any:
    """Returns name, size in bytes and time of change of each file at a path.

    A path that does not exist is a pattern, as for ``read_source``. A name starts at the folder that the path names, so
    that a project may be moved. Objects in a store have a tag of their content as well. What cannot be listed without Spark
    has the state ``UNKNOWN``: another file system, a pattern, or a store whose credentials Spark alone knows.
    """
    if "://" in place:
        return _objects_state(place)
    roots = [Path(place)] if Path(place).exists() else [Path(found) for found in sorted(glob.glob(place))]
    files = [
        file for root in roots for file in (sorted(root.rglob("*")) if root.is_dir() else [root]) if file.is_file()
    ]
    folder = folder_of(place)
    return [(str(f.relative_to(folder)), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]


def _objects_state(uri: str) -> Any:
    if looks_like_pattern(uri):
        return UNKNOWN
    try:
        objects = sorted(ObjectPath(uri).glance())
    except (ImportError, ObjectStoreError) as error:
        log.info("%s is read whole, because it cannot be listed without Spark: %s", uri, error)
        return UNKNOWN
    since = datetime(1970, 1, 1, tzinfo=UTC)
    nanoseconds = [(one.modified - since) // timedelta(microseconds=1) * 1_000 for one in objects]
    return [(one.name, one.bytes, time, one.tag) for one, time in zip(objects, nanoseconds)]


def folder_totals(folder: str) -> list[int]:
    """Returns count, bytes and summed times of change of all files in a folder, which may be too many to list."""
    count = size = times = 0
    for path in Path(folder).rglob("*"):
        status = path.lstat()
        count, size, times = count + 1, size + status.st_size, times + status.st_mtime_ns
    return [count, size, times]


def _promoted_release(settings: Settings) -> Any:
    """Returns what readers get from the promoted release, without who verified or promoted it, and when."""
    folder = settings.artifacts_path / "releases"
    if not (folder / "promoted.json").is_file():
        return None
    version = json.loads((folder / "promoted.json").read_text())["codebook_version"]
    release = json.loads((folder / f"cb{version}.json").read_text())
    code_views = {name: rows for name, rows in release.get("views", {}).items() if "__cb" in name}
    release["views"] = code_views
    return {key: value for key, value in release.items() if key not in _NOT_IN_THE_ROWS}


def _json_files(folder: str) -> Callable[[Settings], Any]:
    def texts(settings: Settings) -> list[str] | None:
        files: list[AnyPath] = [*(settings.artifacts_path / folder).glob("*.json")]
        return [file.read_text() for file in sorted(files, key=str)] or None

    return texts


RELEASES = Place("releases/", _promoted_release)
EVALUATIONS = Place("evaluations/", _json_files("evaluations"))
REPORT = Place("report/", _json_files("report"))
