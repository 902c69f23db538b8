"""Paths of the files of a source: the folder at which their names start, and one path for some of them.

In: the path of a source, or paths of its files. Out: a folder, or a path with names between braces, which Hadoop expands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# Hadoop takes escapes away where it expands names between braces.
_PATTERN = re.compile(r"[\[\]{}*?,\\]")


def folder_of(place: str) -> Path:
    """Return the folder at which the names of the files of a source start.

    Args:
        place: Resolved path of the source: a folder, a file, or a pattern.
    """
    folder = Path(place)
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def paths_of(place: str, names: Iterable[str]) -> list[str]:
    """Return the paths of files of a source.

    Args:
        place: Resolved path of the source, or its URI.
        names: Names of the files below the folder of the source; an empty one for a URI that names the file itself.
    """
    if "://" in place:
        return [f"{place.rstrip('/')}/{name}" if name else place for name in names]
    folder = folder_of(place)
    return [os.path.normpath(folder / name) for name in names]


def looks_like_pattern(path: str) -> bool:
    """Return True if a path cannot stand beside others in one path, because Hadoop would take it for a pattern.

    Example:
        >>> looks_like_pattern("file:/shop/c[1].csv"), looks_like_pattern("file:/shop/c 1.csv")
        (True, False)
    """
    return bool(_PATTERN.search(path))


def one_path_of(paths: Sequence[str]) -> str:
    """Return one path that names these files and no others.

    Args:
        paths: One path, or several of which none looks like a pattern.

    Example:
        >>> one_path_of(["file:/shop/a.csv", "file:/shop/b/c.csv"])
        'file:/shop/{a.csv,b/c.csv}'
    """
    if len(paths) == 1:
        return paths[0]
    folder = _common_folder(paths)
    return f"{folder}{{{','.join(path.removeprefix(folder) for path in paths)}}}"


def _common_folder(paths: Sequence[str]) -> str:
    first, *others = (path.rsplit("/", 1)[0] + "/" for path in paths)
    while not all(other.startswith(first) for other in others):
        first = first[:-1].rsplit("/", 1)[0] + "/"
    return first
