"""The load of a publication: views are applied and materialized up to one moment, then keys that left are deleted.

In: the rows of each view. Out: rows in the online store.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from datetime import UTC, datetime

from feast import Entity, FeatureStore

from qarm_features.feature_store.publishing.gone_rows import GoneRows
from qarm_features.feature_store.publishing.ownership import Ownership
from qarm_features.feature_store.publishing.publication import Publication
from qarm_features.feature_store.publishing.view_loads import ViewLoad

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def load_views(
    project: Ownership, entities: Sequence[Entity], loads: Sequence[ViewLoad], gone: GoneRows, published: Publication
) -> None:
    """Load views up to the moment of a publication, then delete the keys that left.

    Args:
        project: Project that publishes, with its feature store.
        entities: Entities of the views.
        loads: Rows of the views.
        gone: Deletes the keys that left.
        published: Publication to which these keys are added.
    """
    of_log = [load for load in loads if not load.of_release]
    for load in of_log:
        gone.expect(load)
    views = [load.view for load in loads if not load.is_emptied]
    project.store.apply(project.tagged([*entities, *views]))
    materialize(project.store, [view.name for view in views], published.moment)
    for load in of_log:
        published.add_gone(load.view.name, gone.delete(load), deleted=gone.can_be_deleted(load.view))


def materialize(store: FeatureStore, views: list[str], moment: datetime) -> None:
    """Load views by Feast, with their rows up to a moment."""
    # Feast prints its progress to stdout. The job logs a line of its own.
    with contextlib.redirect_stdout(io.StringIO()):
        store.materialize(_EPOCH, moment, feature_views=views)
