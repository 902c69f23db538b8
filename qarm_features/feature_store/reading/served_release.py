"""Which release readers are served now: what the service points at, by Feast's own registry cache.

In: a feature store and the name of a service or of a release's view. Out: the release's view, and what its codes are.
"""

from __future__ import annotations

from typing import NamedTuple

from feast import FeatureStore, FeatureView
from feast.errors import FeastObjectNotFoundException

from qarm_features.feature_store.views.feature_views import USER_VIEW
from qarm_features.storage.tables import ITEM_COUNTERS, USER_IMPRESSIONS


class ServedRelease(NamedTuple):
    """A release as one snapshot of the registry shows it.

    Attributes:
        view: The release's view of items.
        behavior: The view of behavior sequences; None where none is published.
        impressions: The view of labeled impressions; None where none is published.
        counters: The view of items' counters; None where none is published.
        codebook_version: What each of its rows must carry.
        num_levels: L.
    """

    view: FeatureView
    behavior: FeatureView | None
    impressions: FeatureView | None
    counters: FeatureView | None
    codebook_version: int
    num_levels: int

    @property
    def identity(self) -> tuple:
        """What two snapshots share only where the release is the same and has had no items added in between."""
        return (self.view.name, *sorted(self.view.tags.items()))


class ServedReleases:
    """Follows a service from release to release, or stays with a pinned view; any number of threads may ask.

    Feast keeps a snapshot of the registry for ``cache_ttl_seconds``, but builds the service and the view from it on every
    call, which takes about as long as reading 200 items from Redis. Here they are built once per snapshot.

    Args:
        store: The feature store.
        service: A feature service whose first view is a release's, or the name of a release's view.
    """

    def __init__(self, store: FeatureStore, service: str):
        self._store, self._service = store, service
        self._seen: tuple[object, ServedRelease] | None = None

    def held(self) -> ServedRelease | None:
        """Returns the release without asking the registry; None where Feast's snapshot is new or too old."""
        seen, snapshot = self._seen, self._snapshot()
        if seen is None or snapshot is None or seen[0] is not snapshot:
            return None
        return seen[1] if self._store.registry.is_cache_valid() else None

    def current(self) -> ServedRelease:
        """Returns the release that is served now, or was within the registry's cache time.

        Raises:
            ValueError: The registry holds no such service or view.
        """
        release = self.held()
        if release is not None:
            return release
        try:
            return self._look_up()
        except FeastObjectNotFoundException:
            self._store.refresh_registry()  # it may have come, or moved on, since the snapshot
        try:
            return self._look_up()
        except FeastObjectNotFoundException as error:
            raise ValueError(
                f"service is {self._service}, must be a feature service or view of {self._store.project}. "
                "Run: qarm publish-features"
            ) from error

    def _look_up(self) -> ServedRelease:
        registry, project = self._store.registry, self._store.project
        while True:
            snapshot = self._snapshot()
            name = self._service
            if "__cb" not in name:
                service = registry.get_feature_service(name, project, allow_cache=True)
                name = service.feature_view_projections[0].name
            view = registry.get_feature_view(name, project, allow_cache=True)
            of_log = [self._view_or_none(name) for name in (USER_VIEW, USER_IMPRESSIONS.name, ITEM_COUNTERS.name)]
            if self._snapshot() is snapshot:  # else the names are of two snapshots
                break
        release = ServedRelease(view, *of_log, int(view.tags["codebook_version"]), int(view.tags["num_levels"]))
        self._seen = (snapshot, release)
        return release

    def _view_or_none(self, name: str) -> FeatureView | None:
        try:
            return self._store.registry.get_feature_view(name, self._store.project, allow_cache=True)
        except FeastObjectNotFoundException:
            return None

    def _snapshot(self) -> object | None:
        return getattr(
            self._store.registry, "cached_registry_proto", None
        )  # None: a registry that Feast does not cache


class ServedViews(ServedReleases):
    """Follows a service from view to view, or stays with a pinned view: `ServedReleases` for views that are no release's.

    Args:
        store: The feature store.
        service: A feature service, or the name of a view.
        is_view: Whether ``service`` names a view; by default names with two underscores do.
    """

    def __init__(self, store: FeatureStore, service: str, *, is_view: bool | None = None):
        super().__init__(store, service)
        self._is_view = "__" in service if is_view is None else is_view

    def current(self) -> FeatureView:
        """Returns the view that is served now, or was within the registry's cache time.

        Raises:
            ValueError: The registry holds no such service or view.
        """
        return super().current()

    def _look_up(self) -> FeatureView:
        registry, project = self._store.registry, self._store.project
        while True:
            snapshot, name = self._snapshot(), self._service
            if not self._is_view:
                service = registry.get_feature_service(name, project, allow_cache=True)
                name = service.feature_view_projections[0].name
            view = registry.get_feature_view(name, project, allow_cache=True)
            if self._snapshot() is snapshot:  # else the names are of two snapshots
                break
        self._seen = (snapshot, view)
        return view
