"""To whom published things belong: each carries its project's fingerprint, and another project's are refused.

In: settings, a feature store and Feast objects. Out: the same objects with the tag ``qarm_project``, or a
``ForeignProjectError`` that names what belongs to another project. Objects without the tag, as earlier versions of this
package published them, are accepted with a warning, and get it when they are published next.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from feast import Entity, FeatureService, FeatureStore, FeatureView
from feast.data_source import DataSource
from feast.errors import FeastObjectNotFoundException

from qarm_features.feature_store.publishing import online_mark
from qarm_features.feature_store.publishing.online_counts import holds_rows
from qarm_features.feature_store.publishing.release_manifest import ReleaseError
from qarm_features.feature_store.store_errors import naming_the_store
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.settings.load import Settings
from qarm_features.storage.project_fingerprint import adopt_fingerprint, find_fingerprint, project_fingerprint

TAG = "qarm_project"
Published: TypeAlias = Entity | FeatureView | FeatureService | DataSource
_log = logging.getLogger(__name__)


class ForeignProjectError(ReleaseError):
    """What a command would change or read belongs to another project. Nothing was changed."""


@dataclass(frozen=True)
class Ownership:
    """The project that publishes into a feature store.

    Attributes:
        store: Feature store.
        fingerprint: Fingerprint of the project; None if it has published nothing yet.
        warned_of: Names of objects without a mark, of which people were warned.
    """

    store: FeatureStore
    fingerprint: str | None
    warned_of: set[str] = field(default_factory=set, compare=False)

    @classmethod
    def found(cls, settings: Settings, store: FeatureStore) -> Ownership:
        """Return the project of the settings without a change."""
        return cls(store, find_fingerprint(settings.warehouse_path, settings.artifacts_path, name=settings.warehouse))

    @classmethod
    def made(cls, settings: Settings, store: FeatureStore) -> Ownership:
        """Return the project of the settings. Its fingerprint is made if it has none."""
        name = settings.warehouse
        return cls(store, project_fingerprint(settings.warehouse_path, settings.artifacts_path, name=name))

    def tagged(self, objects: Iterable[Published]) -> list[Published]:
        """Return the objects with the project's tag, and their data sources with it."""
        marked = list(objects)
        for one in marked if self.fingerprint else ():
            one.tags = {**(one.tags or {}), TAG: str(self.fingerprint)}
            if isinstance(one, FeatureView) and one.batch_source is not None:
                one.batch_source.tags = {**(one.batch_source.tags or {}), TAG: str(self.fingerprint)}
        return marked

    def require(self, objects: Sequence[Published]) -> None:
        """Refuse objects whose names the registry holds for another project, and rows online that another project wrote.

        Args:
            objects: Objects that a command would change, or whose rows it would change or read.

        Raises:
            ForeignProjectError: One of them belongs to another project.
        """
        untagged = []
        for kind, registered in self._registered(objects):
            owner = (registered.tags or {}).get(TAG)
            if owner is None:
                untagged.append(f"{kind} {registered.name}")
            elif owner != self.fingerprint:
                place = f"The {kind} {registered.name} of the Feast project {self.store.project}"
                raise ForeignProjectError(f"{place} belongs to another project ({owner}). {self._way_out(owner)}")
        new = [name for name in untagged if name not in self.warned_of]
        if new:
            self.warned_of.update(new)
            _log.warning(
                "WARNING: No mark of a project is on what an earlier version published: %s. It is taken as this project's "
                "and marked with the next publication. If another project publishes under the name %s too, set another "
                "project: in feature_store.yaml.",
                ", ".join(new),
                self.store.project,
            )
        config = self.store.config
        owner = online_mark.marked_by(config) if online_mark.keeps_marks(config) else None
        if owner is not None:
            self._refuse_rows_of(owner)

    def untagged(self, names: Sequence[str]) -> list[FeatureView]:
        """Return the registered views of these names that carry no mark of a project."""
        registry, project = self.store.registry, self.store.project
        views = [registry.get_feature_view(name, project, allow_cache=False) for name in names]
        return [view for view in views if TAG not in (view.tags or {})]

    def claim_rows(self, views: Sequence[FeatureView], keys_per_second: int) -> None:
        """Mark the online store with this project, unless another one was there before.

        Args:
            views: Views that the project is about to publish. A store without a mark is searched for rows of those that the
                registry does not know.
            keys_per_second: Largest number of Redis keys to read per second.

        Raises:
            ForeignProjectError: Another project publishes under this name, or somebody's rows are there.
        """
        config = self.store.config
        if self.fingerprint is None or not online_mark.keeps_marks(config):
            _log.info("A %s store keeps no mark of the project that publishes to it.", config.online_store.type)
            return
        if online_mark.marked_by(config) is None:
            known, kind = {one.name for _, one in self._registered(views)}, config.online_store.type
            for view in views:
                if view.name not in known and holds_rows(config, view, keys_per_second):
                    raise ForeignProjectError(
                        f"This {kind} store holds rows of {view.name} under the name {self.store.project}, and the "
                        "registry has no such view: another project may have written them. "
                        f"{self._way_out(self.fingerprint, 'wrote them itself, and its registry was lost')}"
                    )
        self._refuse_rows_of(online_mark.mark(config, self.fingerprint))

    def _refuse_rows_of(self, owner: str) -> None:
        if owner != self.fingerprint:
            kind, project = self.store.config.online_store.type, self.store.project
            raise ForeignProjectError(
                f"Another project ({owner}) publishes to this {kind} store under the name {project}. {self._way_out(owner)}"
            )

    def _way_out(self, owner: str, if_ours: str = "continues that one, whose folders are gone") -> str:
        folder = self.store.config.repo_path
        return (
            f"Nothing was changed. Set another project: in {folder}/feature_store.yaml. If this project {if_ours}, run: "
            f"qarm release adopt {owner}"
        )

    def _registered(self, objects: Sequence[Published]) -> Iterator[tuple[str, Published]]:
        """Yield what the registry holds under the names of objects and of the data sources of views."""
        registry, project = self.store.registry, self.store.project
        look_up = {
            Entity: ("entity", registry.get_entity),
            FeatureView: ("view", registry.get_feature_view),
            FeatureService: ("feature service", registry.get_feature_service),
            DataSource: ("data source", registry.get_data_source),
        }
        sources = [one.batch_source for one in objects if isinstance(one, FeatureView) and one.batch_source is not None]
        for one in [*objects, *sources]:
            kind, get = next(found for cls, found in look_up.items() if isinstance(one, cls))
            try:
                yield kind, get(one.name, project, allow_cache=False)
            except FeastObjectNotFoundException:
                continue


def adopt_project(settings: Settings, fingerprint: str) -> None:
    """Let the project of the settings continue an earlier one, whose views and rows it may then publish again.

    An online store without a mark is marked.

    Args:
        settings: Settings of the project.
        fingerprint: Fingerprint of the earlier project, as the error of a refused command names it.
    """
    config = open_feature_store(settings.feature_repo_path).config
    adopt_fingerprint(settings.warehouse_path, settings.artifacts_path, fingerprint, name=settings.warehouse)
    if online_mark.keeps_marks(config):
        with naming_the_store(config):
            online_mark.mark(config, fingerprint)
