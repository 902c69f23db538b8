"""Open local media below their roots, also while somebody exchanges folders for symbolic links.

In: a path and the real paths of the roots. Out: the content or the status of a regular file. Symbolic links are resolved
first, and the path without links must lie below a root. Then it is opened from the root on, one folder after the other, and
no step follows a link: what was exchanged after the check is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Protocol

from qarm_features.fusion.tokens import BrokenContent

# A folder is opened for the next step only; where the system can do so, without the right to list it.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC  # opening a pipe would block


class SupportsRead(Protocol):
    """Describe a binary stream that can be read."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes."""
        ...


def read_local(path: str, folders: Sequence[str], max_bytes: int, medium: str) -> bytes:
    """Read a file.

    Args:
        path: Path of the file. A relative path is searched below each folder in turn.
        folders: Real paths of the roots.
        max_bytes: Greatest size of the file, in bytes.
        medium: First word of the reason.

    Returns:
        The content.

    Raises:
        BrokenContent: The path leads outside the folders, to no regular file or to one that is too large.
        OSError: The file cannot be opened or read.
    """
    descriptor, status = _open(path, folders, medium)
    with os.fdopen(descriptor, "rb") as stream:
        return read_bounded(stream, status.st_size, max_bytes, medium)


def local_status(path: str, folders: Sequence[str], medium: str) -> os.stat_result:
    """Return the status of the regular file that ``read_local`` would read. The arguments and errors are the same."""
    descriptor, status = _open(path, folders, medium)
    os.close(descriptor)
    return status


def read_bounded(stream: SupportsRead, size: int, max_bytes: int, medium: str) -> bytes:
    """Read a stream to its end, or refuse it.

    Args:
        stream: Binary stream.
        size: Size of which the file is said to be, in bytes.
        max_bytes: Greatest size, in bytes.
        medium: First word of the reason.

    Returns:
        The content.

    Raises:
        BrokenContent: The file is larger.
    """
    content = stream.read(max_bytes + 1) if size <= max_bytes else b""
    if size > max_bytes or len(content) > max_bytes:  # the file may have grown since its size was read
        raise BrokenContent(f"{medium} is larger than {max_bytes} bytes")
    return content


def _open(path: str, folders: Sequence[str], medium: str) -> tuple[int, os.stat_result]:
    """Return a descriptor of the file, which the caller closes, and its status."""
    folder, parts = _place_of(path, folders, medium)
    opened = os.open(folder, _FOLDER)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=opened)
            os.close(opened)
            opened = below
        name = parts[-1] if parts else "."
        # A device is asked for its kind before it is opened, because opening some has effects. A link cannot be opened.
        kind = os.stat(name, dir_fd=opened, follow_symlinks=False).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
            raise BrokenContent(f"{medium} URI is not a file")
        descriptor = os.open(name, _FILE, dir_fd=opened)
    finally:
        os.close(opened)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise BrokenContent(f"{medium} URI is not a file")
    return descriptor, status


def _place_of(path: str, folders: Sequence[str], medium: str) -> tuple[str, list[str]]:
    """Return the root of a file and the parts of its path below it, with links resolved; a file that exists is preferred."""
    candidates = [path] if os.path.isabs(path) else [os.path.join(folder, path) for folder in folders]
    real = [os.path.realpath(candidate) for candidate in candidates]
    inside = [(file, folder) for file in real for folder in folders if os.path.commonpath([file, folder]) == folder]
    if not inside:
        raise BrokenContent(f"{medium} URI is outside media_roots")
    file, folder = next((pair for pair in inside if os.path.exists(pair[0])), inside[0])
    return folder, [part for part in file[len(folder) :].split(os.sep) if part]
