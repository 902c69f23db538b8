"""The list of all releases that have a manifest here or a view in the registry.

In: settings. Out: one line per codebook version, for ``qarm release list``.
"""

from __future__ import annotations

from typing import NamedTuple

from qarm_features.feature_store.publishing.ownership import TAG, Ownership
from qarm_features.feature_store.publishing.release_manifest import ReleaseAction, manifests
from qarm_features.feature_store.publishing.retirement import services_of
from qarm_features.feature_store.views.feature_views import ITEM_SERVICE, open_feature_store
from qarm_features.settings.load import Settings


class ReleaseLine(NamedTuple):
    """A line of the list.

    Attributes:
        codebook_version: Codebook version of the release.
        rows: Number of items with a semantic ID.
        encoder_version: Encoder version of the embeddings.
        delta_version: Delta version of ``item_semantic_ids``.
        state: State in the manifest; ``elsewhere`` if only the artifacts of another machine hold the manifest; ``foreign`` if
            the view belongs to another project.
        served_by: Names of the feature services that name the release.
        promoted: The latest promotion or rollback to this release; None if there was none.
    """

    codebook_version: int
    rows: int
    encoder_version: int
    delta_version: int
    state: str
    served_by: list[str]
    promoted: ReleaseAction | None


def release_lines(settings: Settings) -> list[ReleaseLine]:
    """Return all releases, by codebook version."""
    store = open_feature_store(settings.feature_repo_path)
    services = services_of(store)
    lines: dict[int, ReleaseLine] = {}
    own, foreign = Ownership.found(settings, store).fingerprint, set()
    for view in store.registry.list_feature_views(store.project, allow_cache=False):
        if view.name.startswith(f"{ITEM_SERVICE}__cb"):
            version = int(view.tags["codebook_version"])
            if view.tags.get(TAG, own) != own:
                foreign.add(version)
            lines[version] = ReleaseLine(
                codebook_version=version,
                rows=int(view.tags["rows"]),
                encoder_version=int(view.tags["encoder_version"]),
                delta_version=int(view.tags["delta_version"]),
                state="foreign" if version in foreign else "elsewhere",
                served_by=services.get(view.name, []),
                promoted=None,
            )
    for manifest in manifests(settings):
        release = manifest.release
        if release.codebook_version in foreign:
            continue
        lines[release.codebook_version] = ReleaseLine(
            codebook_version=release.codebook_version,
            rows=release.rows,
            encoder_version=release.encoder_version,
            delta_version=release.delta_version,
            state=manifest.state,
            served_by=services.get(release.view_name, []),
            promoted=manifest.promotions[-1] if manifest.promotions else None,
        )
    return [lines[version] for version in sorted(lines)]
