"""The files of a version on this machine, checked against its manifest.

In: a folder and the entry ``files`` of its manifest. Out: nothing, or an error that names the first file that is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from qarm_features.storage.json_files import sha256

MANIFEST = "manifest.json"
REMEDY = "Restore it or make a new version."


class ArtifactError(ValueError):
    """An artifact is missing, or one of its files differs from its manifest."""


def require_named_files(place: object, manifest: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of the files that a manifest names.

    Args:
        place: Where the manifest is, for the error.
        manifest: Content of the manifest.

    Raises:
        ArtifactError: It names no file, or one outside its folder.
    """
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        raise ArtifactError(f"{place} names no files, so nothing says what the version holds. {REMEDY}")
    for name in files:
        if not _is_inside(name):
            raise ArtifactError(f"{place} names the file {name}, which must lie in its folder. {REMEDY}")
    return files


def require_whole(folder: Path, manifest: dict[str, Any], *, besides: Collection[str] = ()) -> None:
    """Check that a folder holds the files of its manifest and no others.

    Hidden files may lie beside them, because no reader opens one that the manifest does not name.

    Args:
        folder: Folder of the version.
        manifest: Content of its manifest.
        besides: Names of subfolders that other people may have put into the folder.

    Raises:
        ArtifactError: A file is missing, differs, is a symbolic link or is not named by the manifest, or the manifest names
            no file or one outside the folder.
    """
    files = require_named_files(folder / MANIFEST, manifest)
    for name, expected in files.items():
        file = folder / name
        if link := next((str(place) for place in _down_to(folder, name) if place.is_symlink()), None):
            raise ArtifactError(f"{link} is a symbolic link, must be a file or folder of its own. {REMEDY}")
        if not file.is_file() or sha256(file) != expected:
            raise ArtifactError(f"{file} is missing or differs from its manifest. {REMEDY}")
    strangers = _not_named(folder, {*files, MANIFEST}, besides)
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise ArtifactError(f"{folder / strangers[0]}{more} is not in the manifest of its version. Move it elsewhere.")


def hashed_files(folder: Path, kind: str) -> dict[str, str]:
    """Return the SHA-256 of all files in a folder, by name.

    Args:
        folder: Folder with the files of a new version.
        kind: Kind of artifact, for the error.

    Raises:
        ArtifactError: One of them is a symbolic link.
    """
    written = sorted(folder.rglob("*"))
    if link := next((path for path in written if path.is_symlink()), None):
        raise ArtifactError(f"{kind}: {link.relative_to(folder)} is a symbolic link, must be a file or folder.")
    return {path.relative_to(folder).as_posix(): sha256(path) for path in written if path.is_file()}


def _is_inside(name: str) -> bool:
    """Return False for a name that leads out of a folder, or that has another form than ``publish`` writes."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name and name not in ("", ".", MANIFEST)


def _down_to(folder: Path, name: str) -> list[Path]:
    """Return the file of a name and the folders between it and ``folder``, from above."""
    parts = PurePosixPath(name).parts
    return [folder.joinpath(*parts[: number + 1]) for number in range(len(parts))]


def _not_named(folder: Path, named: Collection[str], besides: Collection[str]) -> list[str]:
    """Return the files and links in a folder that are neither named nor hidden nor below a folder in ``besides``."""
    found = []
    for above, folders, files in os.walk(folder):
        inside = Path(above).relative_to(folder)
        links = [name for name in folders if Path(above, name).is_symlink()]
        top = inside == Path(".")
        folders[:] = [name for name in folders if not name.startswith(".") and not (top and name in besides)]
        names = [(inside / name).as_posix() for name in (*files, *links) if not name.startswith(".")]
        found += [name for name in names if name not in named and not (top and name in besides)]
    return sorted(found)
