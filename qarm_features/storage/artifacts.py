"""Versioned folders of what the stages make beside tables: encoders, codebooks, ranking models, releases.

In: a function that writes files into a folder. Out: ``<root>/<kind>/v<n>/`` with a ``manifest.json`` that lists the
SHA-256 of every file. On this machine a version appears by one rename, in an object store by its manifest, which is written
last: no reader sees a part of it, and it is never changed afterwards. What a version holds is what its manifest names, no
less and no more.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from qarm_features.storage.copies import copies_of, drop_copy, fetched, keep_copy
from qarm_features.storage.drafts import DRAFT, remove_below
from qarm_features.storage.json_files import as_json, fingerprint, sha256, write_json
from qarm_features.storage.objects import AnyPath, ObjectPath, any_path
from qarm_features.storage.version_files import MANIFEST, ArtifactError, hashed_files, require_whole
from qarm_features.storage.version_numbers import reserve_number

__all__ = ["MANIFEST", "Artifact", "ArtifactError", "Artifacts", "fingerprint", "open_version", "sha256", "write_json"]


@dataclass(frozen=True)
class Artifact:
    """One published version: its folder and its manifest.

    Attributes:
        kind: Kind of artifact, for example ``codebooks``.
        version: Version number, from 0.
        place: Folder of the version, on this machine or in an object store.
        manifest: Content of its ``manifest.json``.
    """

    kind: str
    version: int
    place: AnyPath
    manifest: dict[str, Any]

    @cached_property
    def path(self) -> Path:
        """Folder of the version on this machine. A version in an object store is fetched on first use."""
        return fetched(self.place, self.manifest) if isinstance(self.place, ObjectPath) else self.place

    @property
    def written_at(self) -> datetime:
        """Time of the manifest in UTC, to the second: it is right unless a folder was copied without its times."""
        manifest = self.place / MANIFEST
        if isinstance(manifest, ObjectPath):
            return manifest.modified()
        return datetime.fromtimestamp(int(manifest.stat().st_mtime), UTC)

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

        Hidden files may lie beside them, because no reader opens one that the manifest does not name. A damaged copy of a
        version in an object store is fetched anew.

        Args:
            besides: Names of subfolders that other people may have put into the folder.

        Raises:
            ArtifactError: A file is missing, differs, is a symbolic link or is not named by the manifest, or the manifest
                names no file or one outside the folder.
        """
        try:
            require_whole(self.path, self.manifest, besides=besides)
        except ArtifactError:
            if not isinstance(self.place, ObjectPath):
                raise
            drop_copy(self.place)
            require_whole(fetched(self.place, self.manifest), self.manifest, besides=besides)
        return self


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


class Artifacts:
    """All versions of one kind of artifact.

    Args:
        root: Folder of all artifacts of the project, or its URI in an object store.
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

    def __init__(self, root: str | AnyPath, kind: str, *, taken: Callable[[], int] = lambda: -1) -> None:
        self.kind = kind
        self.folder: AnyPath = any_path(root) / kind
        self._taken = taken

    def versions(self) -> list[int]:
        """Return the published versions, ascending."""
        if isinstance(self.folder, ObjectPath):
            names = [path.parent.name for path in self.folder.glob(f"v*/{MANIFEST}")]
        else:
            names = [path.name for path in self.folder.glob("v*")]
        return sorted(int(name[1:]) for name in names if name[1:].isdigit())

    def get(self, version: int) -> Artifact:
        """Return one version.

        Raises:
            ArtifactError: The version does not exist.
        """
        place = self.folder / f"v{version}"
        try:
            return Artifact(self.kind, version, place, json.loads((place / MANIFEST).read_text()))
        except (FileNotFoundError, NotADirectoryError):
            present = ", ".join(map(str, self.versions())) or "none"
            raise ArtifactError(f"{self.kind} has no version {version} in {self.folder}. Present: {present}.") from None

    def latest(self) -> Artifact | None:
        """Return the newest version, or None when there is none."""
        versions = self.versions()
        return self.get(versions[-1]) if versions else None

    def find(self, **wanted: Any) -> Artifact | None:
        """Return the newest version whose manifest holds all entries of ``wanted``, or None."""
        return next(self.matching(**wanted), None)

    def matching(self, **wanted: Any) -> Iterator[Artifact]:
        """Yield the versions whose manifest holds all entries of ``wanted``, the newest first."""
        for version in reversed(self.versions()):
            artifact = self.get(version)
            if all(artifact.manifest.get(name) == value for name, value in wanted.items()):
                yield artifact

    def remove(self, version: int) -> None:
        """Delete a version in one step for readers. Its number is not given again.

        Raises:
            ArtifactError: The version does not exist.
        """
        place = self.get(version).place
        if isinstance(place, ObjectPath):
            (place / MANIFEST).unlink(missing_ok=True)
            remove_below(place)
            drop_copy(place)
            return
        gone = self.drafts() / f"{DRAFT}{uuid.uuid4().hex}"
        os.rename(place, gone)
        shutil.rmtree(gone)

    def drafts(self) -> Path:
        """Return the local folder, which exists, on the file system of the versions or else of their copies."""
        if isinstance(self.folder, ObjectPath):
            return copies_of(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def publish(self, write: Callable[[Path], object], **manifest: Any) -> Artifact:
        """Write files and make them the next version in one atomic step.

        When two processes publish at the same time, both succeed and get different versions. A number that was given once is
        never given again.

        Args:
            write: Function that writes the files into the local folder that it is given.
            manifest: Further entries of the manifest, JSON values.

        Raises:
            ArtifactError: ``write`` made a symbolic link.
        """
        draft = self.drafts() / f"{DRAFT}{uuid.uuid4().hex}"
        draft.mkdir()
        try:
            write(draft)
            content = {"kind": self.kind, **manifest, "files": hashed_files(draft, self.kind)}
            content["fingerprint"] = Artifact(self.kind, -1, draft, content).fingerprint
            least = self._taken() + 1
            while True:
                version = reserve_number(self.folder, at_least=least)
                if self._put(draft, version, {**content, "version": version}):
                    return self.get(version)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _put(self, draft: Path, version: int, content: dict[str, Any]) -> bool:
        """Make a draft the version of a reserved number; False if somebody else put files there meanwhile."""
        place = self.folder / f"v{version}"
        if isinstance(place, ObjectPath):
            for name in content["files"]:
                (place / name).upload(draft / name)
            if not (place / MANIFEST).create(as_json(content).encode()):
                return False
            keep_copy(place, draft, content)
            return True
        write_json(draft / MANIFEST, content)
        try:
            os.rename(draft, place)
        except OSError:
            if not place.exists():
                raise
            return False
        return True
