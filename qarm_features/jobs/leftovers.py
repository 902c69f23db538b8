"""What killed runs left among the artifacts: drafts that never became a version, and the work folder of an alignment.

In: settings. Out: the leftovers with their sizes, and their removal while no run holds the project. Versions, records and
reports are never among them.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qarm_features.jobs.project_lock import held_for_run
from qarm_features.settings.load import Settings

_JSON_DRAFT = re.compile(r"\..+\.json-[0-9a-f]{32}")
_VERSION = re.compile(r"v\d+")
_SECONDS = 3_600.0  # A draft of a record may be in use by a command that holds no lock; it lives for milliseconds.


class Leftover(NamedTuple):
    """A folder or file that a killed run left.

    Attributes:
        path: Path of the folder or file.
        bytes: Size of all of its files.
    """

    path: Path
    bytes: int


def leftovers(settings: Settings) -> list[Leftover]:
    """Returns what killed runs left, if no run is at work now."""
    root = settings.artifacts_path
    drafts = [*root.glob("*/.draft-*"), *root.glob("work/*")]
    return [Leftover(path, _size(path)) for path in sorted([*drafts, *_json_drafts(root)])]


def remove_leftovers(settings: Settings) -> list[Leftover]:
    """Removes what killed runs left and returns it.

    Raises:
        ProjectBusy: A run or a job works in the project.
    """
    if not settings.artifacts_path.is_dir():
        return []
    with held_for_run(settings):
        found = leftovers(settings)
        for one in found:
            if one.path.is_dir() and not one.path.is_symlink():
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


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() or file.is_symlink())
