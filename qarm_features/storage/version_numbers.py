"""The numbers of versions: one that was given once is never given again, whatever was deleted since.

In: the folder of a kind. Out: the next number, above every version that exists, that existed, or that the
manifest of another artifact or of a release names. A file ``<kind>/.numbers/<n>`` marks each number that was given, so two
processes never get the same one, and a version that somebody deletes leaves its number behind.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from qarm_features.storage.objects import AnyPath, ObjectPath, ObjectStoreError

_MARKS = ".numbers"
# Entries of manifests, and of the records of releases, that name a version of a kind.
NAMED_BY = {
    "encoders": ("encoder_version", "base_encoder_version"),
    "codebooks": ("codebook_version",),
    "banks": ("bank_version",),
    "item_content": ("item_content_version",),
    "item_features": ("item_features_version",),
    "ranking_models": ("ranking_model_version",),
}
_AT_ONCE = 16  # manifests of an object store that are read at the same time
_MANIFESTS = ("*/v*/manifest.json", "releases/*.json", "releases/vectors/*.json")


def reserve_number(folder: AnyPath, *, at_least: int) -> int:
    """Reserve the next number of a kind of artifact.

    Args:
        folder: Folder of the kind.
        at_least: Smallest number to give, for example because a table holds rows of all smaller ones.
    """
    numbers = [int(name) for name in _names(folder) if name.isdigit()]
    number = max([at_least, *(1 + one for one in [*numbers, _largest_named(folder.parent, folder.name)])])
    while not _mark(folder, number):  # another process was faster
        number += 1
    return number


def _names(folder: AnyPath) -> Iterable[str]:
    """Return the names of all marks, and those of the folders of versions without their first letter."""
    if isinstance(folder, ObjectPath):
        parts = [one.name.split("/") for one in folder.objects()]
        return {part[1] if part[0] == _MARKS else part[0].removeprefix("v") for part in parts if len(part) > 1}
    marks = folder / _MARKS
    marks.mkdir(parents=True, exist_ok=True)
    return [*(path.name for path in marks.iterdir()), *(path.name[1:] for path in folder.glob("v*"))]


def _mark(folder: AnyPath, number: int) -> bool:
    """Mark a number as given; False if somebody has it."""
    mark = folder / _MARKS / str(number)
    if isinstance(mark, ObjectPath):
        return mark.create(uuid.uuid4().hex.encode())
    try:
        mark.open("x").close()
    except FileExistsError:
        return False
    return True


def _largest_named(root: AnyPath, kind: str) -> int:
    """Return the largest version of a kind that other manifests name, -1 if none does."""
    entries = NAMED_BY.get(kind, ())
    named = (content.get(entry) for content in _contents(root) for entry in entries) if entries else ()
    return max((number for number in named if isinstance(number, int)), default=-1)


def _contents(root: AnyPath) -> Iterator[dict[str, Any]]:
    paths = [path for pattern in _MANIFESTS for path in root.glob(pattern)]
    with ThreadPoolExecutor(_AT_ONCE if isinstance(root, ObjectPath) else 1) as threads:
        found = list(threads.map(_content, paths))
    yield from (content for content in found if isinstance(content, dict))


def _content(path: AnyPath) -> Any:
    """Return what a file holds; None for a damaged one, which is refused where its version is read."""
    try:
        return json.loads(path.read_text())
    except ObjectStoreError:  # it says nothing about the manifest
        raise
    except (OSError, ValueError):
        return None
