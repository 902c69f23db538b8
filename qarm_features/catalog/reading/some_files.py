"""One path for some of the files of a source, so that a reader of a source reads them and no others.

In: paths of files. Out: a path with names between braces, which Hadoop expands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Hadoop takes escapes away where it expands names between braces.
_PATTERN = re.compile(r"[\[\]{}*?,\\]")


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
