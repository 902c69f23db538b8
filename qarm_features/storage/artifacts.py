"""Versioned directories of what the stages make besides tables: encoders, codebooks, ranking models, releases.

In: a function that writes files into a folder. Out: ``<root>/<kind>/v<n>/`` with a ``manifest.json`` that lists the
sha256 of every file. A version appears by one rename, so nobody reads half of it, and is never changed afterwards.
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
    """An artifact is missing or is not what its manifest says."""


@dataclass(frozen=True)
class Artifact:
    """One published version: its folder and what its manifest says."""

    kind: str
    version: int
    path: Path
    manifest: dict[str, Any]

    def verify(self) -> Artifact:
        """Checks every file against the manifest and returns the artifact itself.

        Raises:
            ArtifactError: A file is missing or differs.
        """
        for name, expected in self.manifest["files"].items():
            file = self.path / name
            if not file.is_file() or sha256(file) != expected:
                raise ArtifactError(
                    f"{file} is missing or differs from its manifest. Restore it or make a new version."
                )
        return self


class Artifacts:
    """All versions of one kind of artifact, for example ``Artifacts(root, "codebooks")``."""

    def __init__(self, root: str | Path, kind: str):
        self.kind = kind
        self.folder = Path(root) / kind

    def versions(self) -> list[int]:
        """Returns the published versions, ascending."""
        return sorted(int(path.name[1:]) for path in self.folder.glob("v*") if path.name[1:].isdigit())

    def get(self, version: int) -> Artifact:
        """Returns one version.

        Raises:
            ArtifactError: It does not exist.
        """
        path = self.folder / f"v{version}"
        if not (path / MANIFEST).is_file():
            present = ", ".join(map(str, self.versions())) or "none"
            raise ArtifactError(f"{self.kind} has no version {version} in {self.folder}. Present: {present}.")
        return Artifact(self.kind, version, path, json.loads((path / MANIFEST).read_text()))

    def latest(self) -> Artifact | None:
        """Returns the newest version, or None when there is none."""
        versions = self.versions()
        return self.get(versions[-1]) if versions else None

    def find(self, **wanted: Any) -> Artifact | None:
        """Returns the newest version whose manifest holds all of ``wanted``, or None."""
        for version in reversed(self.versions()):
            artifact = self.get(version)
            if all(artifact.manifest.get(name) == value for name, value in wanted.items()):
                return artifact
        return None

    def publish(self, write: Callable[[Path], None], **manifest: Any) -> Artifact:
        """Writes files by ``write(folder)`` and makes them the next version in one atomic rename.

        Two publishers at once both succeed, under different versions.
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
    """Writes JSON so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with open(draft, "w") as file:
        json.dump(content, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def sha256(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(content: Any) -> str:
    """Returns a short hash of any JSON-like value, the same for the same content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
