"""Versioned folders of what the stages make beside tables: encoders, codebooks, ranking models, releases.

In: a function that writes files into a folder. Out: ``<root>/<kind>/v<n>/`` with a ``manifest.json`` that lists the
SHA-256 of every file. A version appears by one rename, so no reader sees a part of it, and it is never changed afterwards.
What a version holds is what its manifest names, no less and no more.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from qarm_features.storage.version_numbers import reserve_number

MANIFEST = "manifest.json"


class ArtifactError(ValueError):
    """An artifact is missing, or one of its files differs from its manifest."""


@dataclass(frozen=True)
class Artifact:
    """One published version: its folder and its manifest.

    Attributes:
        kind: Kind of artifact, for example ``codebooks``.
        version: Version number, from 0.
        path: Folder of the version.
        manifest: Content of its ``manifest.json``.
    """

    kind: str
    version: int
    path: Path
    manifest: dict[str, Any]

    @property
    def content_hash(self) -> str:
        """SHA-256 over the names and the hashes of all files: two versions with the same one hold the same files."""
        return hashlib.sha256(json.dumps(self.manifest["files"], sort_keys=True).encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Short hash of all files and of the encoder that they belong to, which stands beside the rows that it made.

        It tells versions apart that got the same number, for example after the folder of all artifacts was lost.
        """
        return fingerprint([self.manifest.get("files", {}), self.manifest.get("encoder_fingerprint")])

    def verify(self, *, besides: Collection[str] = ()) -> Artifact:
        """Check that the folder holds the files of the manifest and no others, and return the artifact itself.

        Hidden files may lie beside them, because no reader opens one that the manifest does not name.

        Args:
            besides: Names of subfolders that other people may have put into the folder.

        Raises:
            ArtifactError: A file is missing, differs, is a symbolic link or is not named by the manifest, or the manifest
                names no file or one outside the folder.
        """
        files = self.manifest.get("files")
        manifest = self.path / MANIFEST
        if not isinstance(files, dict) or not files:
            raise ArtifactError(f"{manifest} names no files, so nothing says what the version holds. {_REMEDY}")
        for name, expected in files.items():
            if not _is_inside(name):
                raise ArtifactError(f"{manifest} names the file {name}, which must lie in its folder. {_REMEDY}")
            file = self.path / name
            if link := next((str(place) for place in _down_to(self.path, name) if place.is_symlink()), None):
                raise ArtifactError(f"{link} is a symbolic link, must be a file or folder of its own. {_REMEDY}")
            if not file.is_file() or sha256(file) != expected:
                raise ArtifactError(f"{file} is missing or differs from its manifest. {_REMEDY}")
        strangers = _not_named(self.path, {*files, MANIFEST}, besides)
        if strangers:
            more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
            raise ArtifactError(
                f"{self.path / strangers[0]}{more} is not in the manifest of its version. Move it elsewhere."
            )
        return self


_REMEDY = "Restore it or make a new version."


def open_version(folder: str | Path) -> Artifact | None:
    """Return the version that a folder holds; None for a folder without a manifest.

    Args:
        folder: Folder of a version, wherever it was copied to.
    """
    path = Path(folder)
    if not (path / MANIFEST).is_file():
        return None
    manifest = json.loads((path / MANIFEST).read_text())
    return Artifact(manifest.get("kind", path.parent.name), manifest.get("version", -1), path, manifest)


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


class Artifacts:
    """All versions of one kind of artifact.

    Args:
        root: Folder of all artifacts of the project.
        kind: Kind of artifact, the name of its folder.
        taken: Function that returns the largest number that is in use elsewhere, for example in tables; -1 for none.

    Example:
        >>> import pathlib, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> codebooks = Artifacts(root, "codebooks")
        >>> made = codebooks.publish(lambda folder: (folder / "codes.txt").write_text("7"), seed=0)
        >>> made.version, codebooks.versions(), codebooks.find(seed=0).version
        (0, [0], 0)
    """

    def __init__(self, root: str | Path, kind: str, *, taken: Callable[[], int] = lambda: -1) -> None:
        self.kind = kind
        self.folder = Path(root) / kind
        self._taken = taken

    def versions(self) -> list[int]:
        """Return the published versions, ascending."""
        return sorted(int(path.name[1:]) for path in self.folder.glob("v*") if path.name[1:].isdigit())

    def get(self, version: int) -> Artifact:
        """Return one version.

        Raises:
            ArtifactError: The version does not exist.
        """
        path = self.folder / f"v{version}"
        if not (path / MANIFEST).is_file():
            present = ", ".join(map(str, self.versions())) or "none"
            raise ArtifactError(f"{self.kind} has no version {version} in {self.folder}. Present: {present}.")
        return Artifact(self.kind, version, path, json.loads((path / MANIFEST).read_text()))

    def latest(self) -> Artifact | None:
        """Return the newest version, or None when there is none."""
        versions = self.versions()
        return self.get(versions[-1]) if versions else None

    def find(self, **wanted: Any) -> Artifact | None:
        """Return the newest version whose manifest holds all entries of ``wanted``, or None."""
        for version in reversed(self.versions()):
            artifact = self.get(version)
            if all(artifact.manifest.get(name) == value for name, value in wanted.items()):
                return artifact
        return None

    def publish(self, write: Callable[[Path], object], **manifest: Any) -> Artifact:
        """Write files and make them the next version in one atomic rename.

        When two processes publish at the same time, both succeed and get different versions. A number that was given once is
        never given again.

        Args:
            write: Function that writes the files into the folder that it is given.
            manifest: Further entries of the manifest, JSON values.

        Raises:
            ArtifactError: ``write`` made a symbolic link.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".draft-{uuid.uuid4().hex}"
        draft.mkdir()
        try:
            write(draft)
            written = sorted(draft.rglob("*"))
            if link := next((path for path in written if path.is_symlink()), None):
                raise ArtifactError(
                    f"{self.kind}: {link.relative_to(draft)} is a symbolic link, must be a file or folder."
                )
            files = {path.relative_to(draft).as_posix(): sha256(path) for path in written if path.is_file()}
            least = self._taken() + 1
            while True:
                version = reserve_number(self.folder, at_least=least)
                content = {"kind": self.kind, "version": version, **manifest, "files": files}
                content["fingerprint"] = Artifact(self.kind, version, draft, content).fingerprint
                write_json(draft / MANIFEST, content)
                try:
                    os.rename(draft, self.folder / f"v{version}")
                    return self.get(version)
                except OSError:
                    if not (self.folder / f"v{version}").exists():
                        raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with open(draft, "w") as file:
        json.dump(content, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(content: Any) -> str:
    """Return a short hash of any JSON-like value, the same for the same content.

    Example:
        >>> fingerprint({"seed": 0, "levels": 3}) == fingerprint({"levels": 3, "seed": 0})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
