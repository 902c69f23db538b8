"""The release or view that readers are served now: what a feature service names, by Feast's own registry cache.

In: a feature store and the name of a feature service or of a view. Out: the view, and the facts about its rows that readers
check.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

from feast import FeatureStore, FeatureView
from feast.errors import FeastObjectNotFoundException

from qarm_features.feature_store.feast_internals import registry_snapshot
from qarm_features.feature_store.views.feature_views import USER_VIEW
from qarm_features.storage.tables import ITEM_COUNTERS, USER_IMPRESSIONS

_Served = TypeVar("_Served")


class ServedRelease(NamedTuple):
    """A release, read from one snapshot of the registry.

    Attributes:
        view: View of the release's semantic IDs.
        behavior: View of behavior sequences; None if none is published.
        impressions: View of labeled impressions; None if none is published.
        counters: View of the counters of items; None if none is published.
        codebook_version: Codebook version that each row of ``view`` must have.
        num_levels: L, number of codes of each semantic ID.
        codebook_fingerprint: Fingerprint of the codebooks; None for a release of an older version.
    """

    view: FeatureView
    behavior: FeatureView | None
    impressions: FeatureView | None
    counters: FeatureView | None
    codebook_version: int
    num_levels: int
    codebook_fingerprint: str | None = None

    @property
    def identity(self) -> tuple[Any, ...]:
        """A value that two snapshots share only if a semantic ID that the earlier one served is served by the later one."""
        tags = self.view.tags
        if "moved_at" in tags:  # items may come in between
            return (self.view.name, tags.get("codebook_fingerprint"), tags["moved_at"])
        return (self.view.name, *sorted(tags.items()))


class _Follower(Generic[_Served]):
    """Follows a feature service over the snapshots of the registry. Any number of threads may use it.

    Feast keeps a snapshot of the registry for ``cache_ttl_seconds``, but builds the service and the view from it on every
    call, which takes about as long as reading 200 items from Redis. This class builds them once per snapshot.
    """

    def __init__(self, store: FeatureStore, service: str) -> None:
        self._store, self._service = store, service
        self._seen: tuple[object, _Served] | None = None

    def held(self) -> _Served | None:
        """Return what is served without a call to the registry; None if Feast's snapshot is new or too old."""
        seen, snapshot = self._seen, registry_snapshot(self._store.registry)
        if seen is None or snapshot is None or seen[0] is not snapshot:
            return None
        return seen[1] if self._store.registry.is_cache_valid() else None

    def current(self) -> _Served:
        """Return what is served now, or what was served within the registry's cache time.

        Raises:
            ValueError: The registry holds no such service or view.
        """
        served = self.held()
        if served is not None:
            return served
        try:
            return self._look_up()
        except FeastObjectNotFoundException:
            self._store.refresh_registry()  # the object may have been added or moved since the snapshot
        try:
            return self._look_up()
        except FeastObjectNotFoundException as error:
            raise ValueError(
                f"service is {self._service}, must be a feature service or view of {self._store.project}. "
                "Run: qarm publish-features"
            ) from error

    def _look_up(self) -> _Served:
        """Read the registry until both the service and its views come from one snapshot."""
        while True:
            snapshot = registry_snapshot(self._store.registry)
            served = self._read()
            if registry_snapshot(self._store.registry) is snapshot:
                break
        self._seen = (snapshot, served)
        return served

    def _read(self) -> _Served:
        """Read the registry once."""
        raise NotImplementedError

    def _view(self, *, is_view: bool) -> FeatureView:
        """Return the view that ``service`` names, by itself or through a feature service."""
        registry, project, name = self._store.registry, self._store.project, self._service
        if not is_view:
            service = registry.get_feature_service(name, project, allow_cache=True)
            name = service.feature_view_projections[0].name
        return registry.get_feature_view(name, project, allow_cache=True)


class ServedReleases(_Follower[ServedRelease]):
    """Follows a service from release to release, or stays with the view of one release.

    Args:
        store: Feature store.
        service: Name of a feature service whose first view is a release's, or name of a release's view.
    """

    def _read(self) -> ServedRelease:
        view = self._view(is_view="__cb" in self._service)
        return ServedRelease(
            view=view,
            behavior=self._view_or_none(USER_VIEW),
            impressions=self._view_or_none(USER_IMPRESSIONS.name),
            counters=self._view_or_none(ITEM_COUNTERS.name),
            codebook_version=int(view.tags["codebook_version"]),
            num_levels=int(view.tags["num_levels"]),
            codebook_fingerprint=view.tags.get("codebook_fingerprint"),
        )

    def _view_or_none(self, name: str) -> FeatureView | None:
        try:
            return self._store.registry.get_feature_view(name, self._store.project, allow_cache=True)
        except FeastObjectNotFoundException:
            return None


class ServedViews(_Follower[FeatureView]):
    """Follows a service from view to view, or stays with one view, for views that hold no semantic IDs.

    Args:
        store: Feature store.
        service: Name of a feature service or of a view.
        is_view: True if ``service`` names a view. By default, a name with two underscores does.
    """

    def __init__(self, store: FeatureStore, service: str, *, is_view: bool | None = None) -> None:
        super().__init__(store, service)
        self._is_view = "__" in service if is_view is None else is_view

    def _read(self) -> FeatureView:
        return self._view(is_view=self._is_view)
