"""Records of each release beside the artifacts: ``releases/cb<n>.json`` and ``releases/promoted.json``.

In: settings. Out: the versions that a release was made from, its rows and their checksum, its state, and its promotions. A
file appears whole or not at all. The registry holds which release is served, and these files hold the evidence for it.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from qarm_features.feature_store.views.feature_views import Release
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import write_json
from qarm_features.storage.objects import AnyPath

State = Literal["loading", "verified", "retiring", "retired"]


class ReleaseError(ValueError):
    """A release cannot be published or changed as asked. Readers keep the release they had."""


@dataclass(frozen=True)
class ReleaseAction:
    """An action on a release. The names of the fields are keys of the saved files.

    Attributes:
        what: ``promote``, ``rollback``, ``verify`` or ``retire``.
        by: Name of the publisher.
        host: Name of the publisher's machine.
        at: Time in UTC, in ISO format.
    """

    what: str
    by: str
    host: str
    at: str

    @classmethod
    def now(cls, settings: Settings, what: str) -> ReleaseAction:
        """Return an action of this process at this moment."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(what=what, by=publisher(settings), host=socket.gethostname(), at=at)


@dataclass(frozen=True)
class ViewRows:
    """The rows of a view of a release.

    Attributes:
        rows: Number of rows.
        checksum: Checksum of all rows as 16 hexadecimal digits, independent of their order.
    """

    rows: int
    checksum: str

    def __str__(self) -> str:
        """Return number and checksum for an error."""
        return f"{self.rows:,} rows (checksum {self.checksum})"


@dataclass(frozen=True)
class ReleaseManifest:
    """The content of a file ``cb<n>.json``.

    Attributes:
        release: Versions and sizes that the release was made from.
        state: ``loading`` until its rows have been read back, then ``verified``; ``retiring`` while its rows are deleted,
            then ``retired``.
        views: Verified rows of each view of the release, by the view's name.
        verified: The latest verification.
        promotions: All promotions and rollbacks to this release, the latest last.
        retired: The retirement.
    """

    release: Release
    state: State = "verified"
    views: dict[str, ViewRows] = field(default_factory=dict)
    verified: ReleaseAction | None = None
    promotions: tuple[ReleaseAction, ...] = ()
    retired: ReleaseAction | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file. The fields of ``Release`` stand beside the other fields, not in an object."""
        content = dataclasses.asdict(self)
        return {**content.pop("release"), **content, "checksum": self.checksum}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ReleaseManifest:
        """Read the content of a file. A file of an older version, with the fields of ``Release`` alone, is verified."""
        names = {field.name for field in dataclasses.fields(Release)}
        return cls(
            release=Release(**{name: value for name, value in content.items() if name in names}),
            state=content.get("state", "verified"),
            views={name: ViewRows(**rows) for name, rows in content.get("views", {}).items()},
            verified=_action(content.get("verified")),
            promotions=tuple(ReleaseAction(**action) for action in content.get("promotions", ())),
            retired=_action(content.get("retired")),
        )

    @property
    def checksum(self) -> str | None:
        """Checksum of the semantic IDs; None for a release of an older version that computed none."""
        rows = self.views.get(self.release.view_name)
        return None if rows is None else rows.checksum

    @property
    def published(self) -> ReleaseAction | None:
        """The latest promotion, else the latest verification; None if it was never verified."""
        return self.promotions[-1] if self.promotions else self.verified


def publisher(settings: Settings) -> str:
    """Return the name of the publisher: the setting ``publishing.publisher``, else the user of this process."""
    if settings.publishing.publisher:
        return settings.publishing.publisher
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the user of a container may have no name
        return "unknown"


def manifests(settings: Settings) -> list[ReleaseManifest]:
    """Return all manifests in the order of their codebook versions."""
    paths = _folder(settings).glob("cb*.json")
    unsorted = [ReleaseManifest.from_json(json.loads(path.read_text())) for path in paths]
    return sorted(unsorted, key=lambda manifest: manifest.release.codebook_version)


def find_manifest(settings: Settings, codebook_version: int) -> ReleaseManifest | None:
    """Return the manifest of a codebook version, or None."""
    path = _path(settings, codebook_version)
    return ReleaseManifest.from_json(json.loads(path.read_text())) if path.is_file() else None


def require_manifest(settings: Settings, codebook_version: int) -> ReleaseManifest:
    """Return the manifest of a codebook version.

    Raises:
        ReleaseError: The codebook version was never published.
    """
    manifest = find_manifest(settings, codebook_version)
    if manifest is None:
        present = ", ".join(str(one.release.codebook_version) for one in manifests(settings)) or "none"
        raise ReleaseError(
            f"Codebook version {codebook_version} has no release. Present: {present}. "
            f"Run: qarm release publish --codebook-version {codebook_version}"
        )
    return manifest


def write_manifest(settings: Settings, manifest: ReleaseManifest) -> None:
    """Write a manifest in one step, so that a reader sees either the one before it or this one."""
    write_json(_path(settings, manifest.release.codebook_version), manifest.to_json())


def published_releases(settings: Settings) -> list[Release]:
    """Return the verified releases in the order of their codebook versions."""
    return [manifest.release for manifest in manifests(settings) if manifest.state == "verified"]


def promoted_release(settings: Settings) -> Release | None:
    """Return the release that readers were pointed at last, or None."""
    version = _promoted(settings).get("codebook_version")
    return None if version is None else require_manifest(settings, version).release


def require_promoted_release(settings: Settings) -> Release:
    """Return the release that readers were pointed at last.

    Raises:
        ReleaseError: No release is promoted yet.
    """
    release = promoted_release(settings)
    if release is None:
        raise ReleaseError("No release is promoted. Run: qarm publish-features")
    return release


def record_promotion(settings: Settings, codebook_version: int, what: Literal["promote", "rollback"]) -> None:
    """Record a promotion or a rollback, in the manifest of the release and in the history of all releases."""
    action = ReleaseAction.now(settings, what)
    manifest = require_manifest(settings, codebook_version)
    write_manifest(settings, dataclasses.replace(manifest, promotions=(*manifest.promotions, action)))
    history = [*_history(settings), {"codebook_version": codebook_version, **dataclasses.asdict(action)}]
    write_json(_folder(settings) / "promoted.json", {"codebook_version": codebook_version, "history": history})


def promoted_before(settings: Settings) -> list[int]:
    """Return the codebook versions that readers were pointed at, one after the other. The last one is served now.

    A rollback removes the versions after its target from this list, so that two rollbacks lead two releases back.
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


def _folder(settings: Settings) -> AnyPath:
    return settings.artifacts_path / "releases"


def _path(settings: Settings, codebook_version: int) -> AnyPath:
    return _folder(settings) / f"cb{codebook_version}.json"


def _action(content: dict[str, str] | None) -> ReleaseAction | None:
    return None if content is None else ReleaseAction(**content)
