"""The files of a source: what was looked for, and what was found instead.

In: a folder. Out: paths of files by name, or an error that lists what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qarm_features.importers.lines import PACKED
from qarm_features.importers.plan import ImportFailed

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar")
_MAX_NAMED = 8


class SourceFolder:
    """A folder whose files are asked for by name. A file may be packed, as ``ratings.csv.gz`` for ``ratings.csv``.

    Args:
        folder: The folder. If it only holds one other folder, as archives unpack, that one is meant.
        title: What the format is called, for messages.
        looks_for: What the format needs, for messages.

    Raises:
        ImportFailed: There is no such folder.
    """

    def __init__(self, folder: Path, title: str, looks_for: str) -> None:
        if not folder.exists():
            raise ImportFailed(f"SOURCE is {folder}, and there is no such folder.")
        self.named, self.title, self.looks_for = folder, title, looks_for
        if folder.is_file():
            raise ImportFailed(
                f"SOURCE is {folder}, a file, must be the folder with the files of {title}: {looks_for}."
            )
        inside = _visible(folder)
        self.folder = inside[0] if len(inside) == 1 and inside[0].is_dir() else folder

    def find(self, *names: str) -> Path | None:
        """Returns the file that has one of some names, plain or packed, or None.

        Args:
            names: Names, the wanted one first.
        """
        for name in names:
            for suffix in ("", *PACKED):
                path = self.folder / (name + suffix)
                if path.is_file():
                    return path
        return None

    def matching(self, fits: Callable[[str], bool], *, depth: int = 0) -> tuple[Path, ...]:
        """Returns the files whose names, without the suffix of a packed file, fit, in the order of their paths.

        Args:
            fits: Condition on a name.
            depth: Number of levels of folders below the folder that are looked into, at least 0.
        """
        places = [self.folder]
        for _ in range(depth):
            places += [inside for place in places for inside in _visible(place) if inside.is_dir()]
        files = {path for place in places for path in _visible(place) if path.is_file() and fits(plain_name(path))}
        return tuple(sorted(files))

    def refuse(self, because: str = "") -> ImportFailed:
        """Returns the error that says what was looked for and what was found.

        Args:
            because: A sentence about what does not fit.
        """
        names = [path.name + ("/" if path.is_dir() else "") for path in _visible(self.folder)]
        more = f" and {len(names) - _MAX_NAMED:,} more" if len(names) > _MAX_NAMED else ""
        found = ", ".join(names[:_MAX_NAMED]) + more if names else "nothing"
        archives = [name for name in names if name.endswith(_ARCHIVES)]
        unpack = f" Unpack {archives[0]} first." if archives else ""
        return ImportFailed(
            f"{self.folder} does not look like {self.title}. Looked for: {self.looks_for}. Found: {found}."
            f"{' ' + because if because else ''}{unpack} qarm import --list explains each format."
        )


def plain_name(path: Path) -> str:
    """Returns the name of a file without the suffix of a packed file.

    Args:
        path: Path of the file.
    """
    return path.name.removesuffix(path.suffix) if path.suffix in PACKED else path.name


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))
