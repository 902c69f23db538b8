"""Every release that is known here: by its manifest, or because the registry has its view.

In: settings. Out: one line per codebook version, for people.
"""

from __future__ import annotations

from typing import NamedTuple

from qarm_features.feature_store.publishing.release_manifest import Deed, manifests
from qarm_features.feature_store.publishing.retirement import services_of
from qarm_features.feature_store.views.feature_views import ITEM_SERVICE, open_feature_store
from qarm_features.settings.load import Settings


class ReleaseLine(NamedTuple):
    """A release as a person sees it.

    Attributes:
        state: Of the manifest; ``elsewhere`` where another machine's artifacts hold it.
        served_by: Feature services that name it.
        promoted: The last time that readers were pointed at it.
    """

    codebook_version: int
    rows: int
    encoder_version: int
    delta_version: int
    state: str
    served_by: list[str]
    promoted: Deed | None


def release_lines(settings: Settings) -> list[ReleaseLine]:
    """Returns all releases, by codebook version."""
    store = open_feature_store(settings.feature_repo_path)
    services = services_of(store)
    found = {}
    for view in store.registry.list_feature_views(store.project, allow_cache=False):
        if view.name.startswith(f"{ITEM_SERVICE}__cb"):
            named = services.get(view.name, [])
            numbers = (
                int(view.tags[name]) for name in ("codebook_version", "rows", "encoder_version", "delta_version")
            )
            line = ReleaseLine(*numbers, state="elsewhere", served_by=named, promoted=None)
            found[line.codebook_version] = line
    for manifest in manifests(settings):
        of = manifest.release
        found[of.codebook_version] = ReleaseLine(
            of.codebook_version,
            of.rows,
            of.encoder_version,
            of.delta_version,
            state=manifest.state,
            served_by=services.get(of.view_name, []),
            promoted=manifest.promotions[-1] if manifest.promotions else None,
        )
    return [found[version] for version in sorted(found)]
