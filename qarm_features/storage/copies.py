"""Copies on this machine of versions that lie in an object store: each is fetched once, and checked as it comes.

In: the path of a version in an object store, and its manifest. Out: a local folder with the same files, in
``<cache>/<hash of the artifacts>/<kind>/v<n>``. The folders of the cache lie as the artifacts themselves do. A version never
changes, so a copy never grows old; the whole cache may be deleted while nothing runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qarm_features.storage.json_files import as_json, fingerprint, sha256, write_json
from qarm_features.storage.objects import ObjectPath, any_path
from qarm_features.storage.version_files import MANIFEST, REMEDY, ArtifactError, require_named_files

CACHE_DIR = "QARM_CACHE_DIR"  # A variable and no setting: qarm.yaml may be shared by machines, a cache is not.
_SOURCE = "copied_from.json"
_AT_ONCE = 8  # files that are fetched at the same time


def cache_folder() -> Path:
    """Return the folder of the copies: that of ``QARM_CACHE_DIR``, else one of the user, else a temporary one.

    Raises:
        ArtifactError: The temporary folder belongs to another user.
    """
    if named := os.environ.get(CACHE_DIR):
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(home) / "qarm"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    folder = Path(tempfile.gettempdir()) / f"qarm-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ArtifactError(f"{folder} belongs to another user. Set {CACHE_DIR} to a folder of this user.")
    return folder


def copies_root(artifacts: ObjectPath) -> Path:
    """Return the folder of the copies of all artifacts of a project, which may not exist.

    Args:
        artifacts: Folder of the artifacts in the object store.
    """
    return cache_folder() / fingerprint(str(artifacts))


def copies_of(kind: ObjectPath) -> Path:
    """Return the folder of the copies of one kind of artifact, and make it.

    Args:
        kind: Folder of the kind in the object store.
    """
    root = copies_root(kind.parent)
    folder = root / kind.name
    folder.mkdir(parents=True, exist_ok=True)
    if not (root / _SOURCE).is_file():
        write_json(root / _SOURCE, {"artifacts": str(kind.parent)})
    return folder


def fetched(version: ObjectPath, manifest: dict[str, Any]) -> Path:
    """Return the copy of a version, and fetch it if this machine has none.

    Args:
        version: Folder of the version in the object store.
        manifest: Content of its manifest.

    Raises:
        ArtifactError: A file in the object store is missing or differs from the manifest.
    """
    folder = copies_of(version.parent) / version.name
    files = require_named_files(version / MANIFEST, manifest)
    if not _has(folder, manifest):
        with _held(folder):
            if not _has(folder, manifest):
                draft = folder.with_name(f".part-{folder.name}")
                shutil.rmtree(draft, ignore_errors=True)
                _fetch_files(version, draft, files)
                (draft / MANIFEST).write_text(as_json(manifest))
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(draft, folder)
    return folder


def keep_copy(version: ObjectPath, draft: Path, manifest: dict[str, Any]) -> None:
    """Make the files from which a version was published its copy, so that the publisher fetches nothing.

    Args:
        version: Folder of the version in the object store.
        draft: Local folder with its files, which is moved away.
        manifest: Content of its manifest.
    """
    folder = copies_of(version.parent) / version.name
    (draft / MANIFEST).write_text(as_json(manifest))
    with _held(folder):
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(draft, folder)


def drop_copy(version: ObjectPath) -> None:
    """Delete the copy of a version, so that it is fetched anew."""
    folder = copies_of(version.parent) / version.name
    with _held(folder):
        shutil.rmtree(folder, ignore_errors=True)


def local_folder(place: str | Path) -> Path:
    """Return a folder on this machine: a local one as it is, and a copy of a version in an object store.

    Args:
        place: Local folder, or the URI of a version.

    Raises:
        ArtifactError: The URI names no version.
    """
    path = any_path(str(place))
    if isinstance(path, Path):
        return path
    return fetched(path, read_manifest(path))


def beside(version: Path, kind: str, number: int) -> Path:
    """Return the folder of another version of the same artifacts. It is fetched if the given one is a copy.

    Args:
        version: Folder of a version.
        kind: Kind of the other artifact.
        number: Its version number.
    """
    root, wanted = version.parent.parent, f"v{number}"
    if not (root / _SOURCE).is_file():
        return root / kind / wanted
    return local_folder(f"{json.loads((root / _SOURCE).read_text())['artifacts']}/{kind}/{wanted}")


def read_manifest(version: ObjectPath) -> dict[str, Any]:
    """Return the manifest of a version in an object store.

    Raises:
        ArtifactError: There is no such version.
    """
    try:
        manifest: dict[str, Any] = json.loads((version / MANIFEST).read_text())
    except FileNotFoundError:
        raise ArtifactError(
            f"{version} has no {MANIFEST}, so it is no version. Restore it or name another one."
        ) from None
    return manifest


def _has(folder: Path, manifest: dict[str, Any]) -> bool:
    """Return whether a copy has this manifest and all its files, whose content ``Artifact.verify`` checks."""
    try:
        is_same = fingerprint(json.loads((folder / MANIFEST).read_text())) == fingerprint(manifest)
    except (OSError, ValueError):
        return False
    return is_same and all((folder / name).is_file() for name in manifest["files"])


def _fetch_files(version: ObjectPath, folder: Path, files: dict[str, str]) -> None:
    def fetch(name: str) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            (version / name).download(file)
        except FileNotFoundError:
            raise ArtifactError(f"{version / name} is missing. {REMEDY}") from None
        if sha256(file) != files[name]:
            raise ArtifactError(f"{version / name} differs from its manifest. {REMEDY}")

    folder.mkdir(parents=True)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(fetch, files))


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Let one process of this machine at a time change a copy."""
    with open(folder.with_name(f".{folder.name}.lock"), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
