"""What killed runs left among the artifacts: drafts that never became a version, and the work folder of an alignment.

In: settings. Out: the leftovers with their sizes, and their removal while no run holds the project. Versions, records and
reports are never among them. In an object store, files without a manifest are no version; another machine may be writing
them, so they count only when nothing was added for a day.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qarm_features.jobs.project_lock import held_for_run
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import MANIFEST
from qarm_features.storage.copies import copies_root
from qarm_features.storage.drafts import DRAFT, remove_below
from qarm_features.storage.objects import AnyPath, ObjectPath, StoredObject

_JSON_DRAFT = re.compile(r"\..+\.json-[0-9a-f]{32}")
_VERSION = re.compile(r"v\d+")
_SECONDS = 3_600.0  # A draft of a record may be in use by a command that holds no lock; it lives for milliseconds.
_REMOTE_SECONDS = 86_400.0  # Another machine may be writing a version, which takes as long as its files are large.


class Leftover(NamedTuple):
    """A folder or file that a killed run left.

    Attributes:
        path: Path of the folder or file.
        bytes: Size of all of its files.
    """

    path: AnyPath
    bytes: int


def leftovers(settings: Settings) -> list[Leftover]:
    """Returns what killed runs left, if no run is at work now."""
    root, state = settings.artifacts_path, settings.state_path
    found: list[Leftover] = []
    folders = [state]
    if isinstance(root, ObjectPath):
        found = _remote_leftovers(root)
        folders.append(copies_root(root))
    drafts = [path for folder in folders for path in folder.glob(f"*/{DRAFT}*")]
    local = [*drafts, *state.glob("work/*"), *_json_drafts(state)]
    return [*found, *(Leftover(path, _size(path)) for path in sorted(local))]


def remove_leftovers(settings: Settings) -> list[Leftover]:
    """Removes what killed runs left and returns it.

    Raises:
        ProjectBusy: A run or a job works in the project.
    """
    if not settings.state_path.is_dir() and isinstance(settings.artifacts_path, Path):
        return []
    with held_for_run(settings):
        found = leftovers(settings)
        for one in found:
            if isinstance(one.path, ObjectPath):
                remove_below(one.path)
            elif one.path.is_dir() and not one.path.is_symlink():
                shutil.rmtree(one.path)
            else:
                one.path.unlink(missing_ok=True)
    return found


def total(found: list[Leftover]) -> str:
    """Returns number and size of leftovers for people.

    Example:
        >>> total([Leftover(Path("work/align-1"), 2_500_000)])
        '1 folder or file, 2.5 MB'
    """
    size = float(sum(one.bytes for one in found))
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1_000 or unit == "GB":
            break
        size /= 1_000
    number = f"{len(found):,} {'folder or file' if len(found) == 1 else 'folders or files'}"
    return f"{number}, {size:,.0f} {unit}" if unit == "bytes" else f"{number}, {size:,.1f} {unit}"


def _json_drafts(root: Path) -> Iterator[Path]:
    for pattern in (".*", "*/.*", "*/*/.*"):
        for path in root.glob(pattern):
            is_of_version = any(_VERSION.fullmatch(part) for part in path.relative_to(root).parts)
            is_draft = _JSON_DRAFT.fullmatch(path.name) and path.is_file() and not is_of_version
            if is_draft and time.time() - path.stat().st_mtime > _SECONDS:
                yield path


def _remote_leftovers(root: ObjectPath) -> list[Leftover]:
    """Returns the drafts, and the folders of numbers without a manifest, in which nothing changed for a day."""
    files: defaultdict[str, list[StoredObject]] = defaultdict(list)
    for one in root.objects():
        kind, _, below = one.name.partition("/")
        name, _, file = below.partition("/")
        if file and (_VERSION.fullmatch(name) or name.startswith(DRAFT)):
            files[f"{kind}/{name}"].append(one)
    return [
        Leftover(root / name, sum(one.bytes for one in found))
        for name, found in sorted(files.items())
        if f"{name}/{MANIFEST}" not in {one.name for one in found}
        and time.time() - max(one.modified.timestamp() for one in found) > _REMOTE_SECONDS
    ]


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() or file.is_symlink())
