"""Folders for what is not finished: one that several machines write together, and the removal of what lies below a folder.

In: the folder of a kind of artifact. Out: a new folder in it, which is gone at the end of a block.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from qarm_features.storage.copies import copies_of
from qarm_features.storage.objects import AnyPath, ObjectPath

DRAFT = ".draft-"


@contextlib.contextmanager
def shared_draft(folder: AnyPath) -> Iterator[AnyPath]:
    """Give a new folder that every machine reaches which reaches the artifacts, and remove it at the end.

    Args:
        folder: Folder of a kind of artifact.
    """
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=DRAFT) as draft:
            yield Path(draft)
        return
    remote = folder / f"{DRAFT}{uuid.uuid4().hex}"
    try:
        yield remote
    finally:
        remove_below(remote)
        shutil.rmtree(copies_of(remote))  # what executors on this machine fetched of it


def remove_below(folder: ObjectPath) -> None:
    """Delete all objects below a folder."""
    for one in list(folder.objects()):
        (folder / one.name).unlink(missing_ok=True)


def download_below(folder: ObjectPath, to: Path) -> None:
    """Copy all objects below a folder into a local one."""
    for one in folder.objects():
        file = to / one.name
        file.parent.mkdir(parents=True, exist_ok=True)
        (folder / one.name).download(file)
