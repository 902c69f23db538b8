"""The Feast objects of a project for ``feast apply``, which deletes from the registry whatever they leave out.

In: the path of ``qarm.yaml``. Out: the objects that our records name, and those that the registry holds beside them: releases
that another machine published, that are being loaded, or whose setting was taken back. ``feast apply`` therefore deletes
nothing that a publication made. A release is deleted by ``qarm release retire`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from feast import Entity, FeatureService, FeatureView
from feast.data_source import DataSource

from qarm_features.feature_store.publishing.ownership import TAG, Ownership, Published
from qarm_features.feature_store.publishing.release_manifest import promoted_release, published_releases
from qarm_features.feature_store.registry_errors import naming_the_registry
from qarm_features.feature_store.views.feature_views import (
    ITEM_SERVICE,
    entities,
    item_service,
    log_views,
    open_feature_store,
    release_view,
)
from qarm_features.feature_store.views.vector_views import (
    EMBEDDING_SERVICE,
    NEAREST_SERVICE,
    published_vectors,
    release_views,
    user_embedding_views,
    vector_services,
)
from qarm_features.settings.load import Settings, load_settings

# Names of what an earlier version published without a tag.
_OURS = re.compile(rf"({ITEM_SERVICE}(__cb\d+)?|{EMBEDDING_SERVICE}(__enc\d+)?|{NEAREST_SERVICE}(__bank\d+)?)")


def definitions(config: str | Path) -> list[Published]:
    """Return all Feast objects of a project, so that ``feast apply`` leaves the registry as our jobs made it.

    Args:
        config: Path of ``qarm.yaml``.

    Raises:
        ForeignProjectError: The registry holds objects of these names for another project. ``feast apply`` then ends with
            this error and changes nothing.

    Example:
        ``feature_repo/feature_definitions.py`` does this::

            globals().update({f"{type(one).__name__}_{one.name}": one for one in definitions("qarm.yaml")})
    """
    settings = load_settings(config)
    store = open_feature_store(settings.feature_repo_path)
    project, recorded = Ownership.found(settings, store), _recorded(settings)
    with naming_the_registry(store.config):
        project.require(recorded)
        registered = _registered(project)
    tagged = project.tagged(recorded)
    names = {(_kind(one), one.name) for one in tagged}
    # Which release is served is known to the registry best: the record of a flip is written after it.
    services = {one.name: one for one in registered if isinstance(one, FeatureService)}
    objects = [
        *(services.get(one.name, one) if isinstance(one, FeatureService) else one for one in tagged),
        *(one for one in registered if (_kind(one), one.name) not in names),
    ]
    # Feast takes the sources of views from the views, and refuses one that occurs twice.
    sources = {one.batch_source.name for one in objects if isinstance(one, FeatureView) and one.batch_source}
    return [one for one in objects if not (isinstance(one, DataSource) and one.name in sources)]


def _recorded(settings: Settings) -> list[Published]:
    """Return what the project's own records and tables name."""
    views = {view.name: view for release in published_releases(settings) for view in release_views(settings, release)}
    objects = [*entities(settings), *views.values(), *log_views(settings), *user_embedding_views(settings)]
    promoted = promoted_release(settings)
    if promoted is not None:
        vectors = published_vectors(settings, promoted.encoder_version)
        objects += [item_service(release_view(settings, promoted)), *vector_services(settings, vectors)]
    return objects


def _registered(project: Ownership) -> list[Published]:
    """Return what publications of this project have left in the registry, with and without its tag."""
    registry, name = project.store.registry, project.store.project
    everything: Sequence[Published] = [
        *registry.list_entities(name, allow_cache=False),
        *registry.list_feature_views(name, allow_cache=False),
        *registry.list_feature_services(name, allow_cache=False),
        *registry.list_data_sources(name, allow_cache=False),
    ]
    return [one for one in everything if TAG in (one.tags or {}) or _OURS.fullmatch(one.name)]


def _kind(one: Published) -> type:
    return next(kind for kind in (Entity, FeatureView, FeatureService, DataSource) if isinstance(one, kind))
