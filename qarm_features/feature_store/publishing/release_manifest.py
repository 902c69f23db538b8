"""What is known of each release, as files beside the artifacts: ``releases/cb<n>.json`` and ``releases/promoted.json``.

In: settings. Out: what a release was made from, its rows and their checksum, its state, who promoted it and when. Files
appear whole or not at all. The registry says what is served; these files say why it may be.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from qarm_features.feature_store.views.feature_views import Release
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import write_json

State = Literal["loading", "verified", "retiring", "retired"]


class ReleaseError(ValueError):
    """A release is not what it should be; readers keep what they had."""


@dataclass(frozen=True)
class Deed:
    """Who did something to a release, when, and what: ``promote``, ``rollback``, ``verify`` or ``retire``."""

    what: str
    by: str
    host: str
    at: str

    @classmethod
    def now(cls, settings: Settings, what: str) -> Deed:
        """Returns what is done at this moment by this process."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(what=what, by=publisher(settings), host=socket.gethostname(), at=at)


@dataclass(frozen=True)
class ViewRows:
    """A view of a release: how many rows it has, and a checksum of them that does not depend on their order."""

    rows: int
    checksum: str


@dataclass(frozen=True)
class ReleaseManifest:
    """One file ``cb<n>.json``.

    Attributes:
        release: What it was made from.
        state: ``loading`` until its rows were read back; ``retiring`` while they are deleted.
        views: Of each view of the release its rows, as they were verified.
        verified: Who verified it last.
        promotions: Every time that readers were pointed at it.
        retired: Who retired it.
    """

    release: Release
    state: State = "verified"
    views: dict[str, ViewRows] = field(default_factory=dict)
    verified: Deed | None = None
    promotions: tuple[Deed, ...] = ()
    retired: Deed | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the content of the file: the fields of `Release` on top, beside the others."""
        content = dataclasses.asdict(self)
        return {**content.pop("release"), **content, "checksum": self.checksum}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ReleaseManifest:
        """Reads a file; one that holds the fields of `Release` alone is a verified release."""
        names = {one.name for one in dataclasses.fields(Release)}
        return cls(
            release=Release(**{name: value for name, value in content.items() if name in names}),
            state=content.get("state", "verified"),
            views={name: ViewRows(**rows) for name, rows in content.get("views", {}).items()},
            verified=_deed(content.get("verified")),
            promotions=tuple(Deed(**deed) for deed in content.get("promotions", ())),
            retired=_deed(content.get("retired")),
        )

    @property
    def checksum(self) -> str | None:
        """Checksum of the rows of semantic IDs; None of a release that was made before there were any."""
        rows = self.views.get(self.release.view_name)
        return rows and rows.checksum


def publisher(settings: Settings) -> str:
    """Returns the name that is kept beside what this process does to a release."""
    if settings.publishing.publisher:
        return settings.publishing.publisher
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"


def manifests(settings: Settings) -> list[ReleaseManifest]:
    """Returns every manifest, by codebook version."""
    found = [ReleaseManifest.from_json(json.loads(path.read_text())) for path in _folder(settings).glob("cb*.json")]
    return sorted(found, key=lambda manifest: manifest.release.codebook_version)


def find_manifest(settings: Settings, codebook_version: int) -> ReleaseManifest | None:
    """Returns the manifest of a codebook version, or None."""
    path = _path(settings, codebook_version)
    return ReleaseManifest.from_json(json.loads(path.read_text())) if path.is_file() else None


def require_manifest(settings: Settings, codebook_version: int) -> ReleaseManifest:
    """Returns the manifest of a codebook version.

    Raises:
        ReleaseError: It was never published.
    """
    manifest = find_manifest(settings, codebook_version)
    if manifest is None:
        present = ", ".join(str(one.release.codebook_version) for one in manifests(settings)) or "none"
        raise ReleaseError(
            f"Codebook version {codebook_version} has no release, must have one. Present: {present}. "
            f"Run: qarm release publish --codebook-version {codebook_version}"
        )
    return manifest


def write_manifest(settings: Settings, manifest: ReleaseManifest) -> None:
    """Writes a manifest; a reader sees the one before it or this one."""
    write_json(_path(settings, manifest.release.codebook_version), manifest.to_json())


def published_releases(settings: Settings) -> list[Release]:
    """Returns the releases that were loaded and verified, by codebook version."""
    return [manifest.release for manifest in manifests(settings) if manifest.state == "verified"]


def promoted_release(settings: Settings) -> Release | None:
    """Returns the release that was flipped to last, or None."""
    version = _promoted(settings).get("codebook_version")
    return None if version is None else require_manifest(settings, version).release


def require_promoted_release(settings: Settings) -> Release:
    """Returns the release that was flipped to last.

    Raises:
        ReleaseError: There is none yet.
    """
    release = promoted_release(settings)
    if release is None:
        raise ReleaseError("No release is promoted, must be one. Run: qarm publish-features")
    return release


def record_promotion(settings: Settings, codebook_version: int, what: Literal["promote", "rollback"]) -> None:
    """Keeps who pointed readers at a release, in its manifest and in the history of all."""
    deed = Deed.now(settings, what)
    manifest = require_manifest(settings, codebook_version)
    write_manifest(settings, dataclasses.replace(manifest, promotions=(*manifest.promotions, deed)))
    history = [*_history(settings), {"codebook_version": codebook_version, **dataclasses.asdict(deed)}]
    write_json(_folder(settings) / "promoted.json", {"codebook_version": codebook_version, "history": history})


def promoted_before(settings: Settings) -> list[int]:
    """Returns the codebook versions that readers were pointed at one after the other; the last is the one of now.

    Going back takes the last away, so that going back twice leads two releases back, not to and fro.
    """
    versions: list[int] = []
    for entry in _history(settings):
        if entry.get("what") == "rollback":
            while versions and versions[-1] != entry["codebook_version"]:
                versions.pop()
        if not versions or versions[-1] != entry["codebook_version"]:
            versions.append(entry["codebook_version"])
    return versions


def _history(settings: Settings) -> list[dict[str, Any]]:
    promoted = _promoted(settings)
    before = [{"codebook_version": promoted["codebook_version"]}] if promoted else []
    return promoted.get("history", before)


def _promoted(settings: Settings) -> dict[str, Any]:
    path = _folder(settings) / "promoted.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _folder(settings: Settings) -> Path:
    return settings.artifacts_path / "releases"


def _path(settings: Settings, codebook_version: int) -> Path:
    return _folder(settings) / f"cb{codebook_version}.json"


def _deed(content: dict[str, str] | None) -> Deed | None:
    return None if content is None else Deed(**content)
