"""Versioned folders of what the stages make beside tables: encoders, codebooks, ranking models, releases.

In: a function that writes files into a folder. Out: ``<root>/<kind>/v<n>/`` with a ``manifest.json`` that lists the
SHA-256 of every file. A version appears by one rename, so no reader sees a part of it, and it is never changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def verify(self) -> Artifact:
        """Check every file against the manifest and return the artifact itself.

        Raises:
            ArtifactError: A file is missing or differs from the manifest.
        """
        for name, expected in self.manifest["files"].items():
            file = self.path / name
            if not file.is_file() or sha256(file) != expected:
                raise ArtifactError(
                    f"{file} is missing or differs from its manifest. Restore it or make a new version."
                )
        return self


class Artifacts:
    """All versions of one kind of artifact.

    Args:
        root: Folder of all artifacts of the project.
        kind: Kind of artifact, the name of its folder.

    Example:
        >>> import pathlib, tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> codebooks = Artifacts(root, "codebooks")
        >>> made = codebooks.publish(lambda folder: (folder / "codes.txt").write_text("7"), seed=0)
        >>> made.version, codebooks.versions(), codebooks.find(seed=0).version
        (0, [0], 0)
    """

    def __init__(self, root: str | Path, kind: str) -> None:
        self.kind = kind
        self.folder = Path(root) / kind

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

        When two processes publish at the same time, both succeed and get different versions.

        Args:
            write: Function that writes the files into the folder that it is given.
            manifest: Further entries of the manifest, JSON values.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".draft-{uuid.uuid4().hex}"
        draft.mkdir()
        try:
            write(draft)
            files = {str(f.relative_to(draft)): sha256(f) for f in sorted(draft.rglob("*")) if f.is_file()}
            while True:
                version = max(self.versions(), default=-1) + 1
                content = {"kind": self.kind, "version": version, **manifest, "files": files}
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
