"""The plan of a publication: which rows go into which views, as of one moment.

In: a release and the tables. Out: the rows of each view, checked, and the views that are no longer published.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

from feast import FeatureStore, FeatureView
from pyspark.sql import SparkSession

from qarm_features.feature_store.publishing.expiry import keys_expire
from qarm_features.feature_store.publishing.publication import Publication
from qarm_features.feature_store.publishing.release_checks import check_codes
from qarm_features.feature_store.publishing.vector_checks import check_user_embeddings, vectors_to_publish
from qarm_features.feature_store.publishing.view_loads import ViewLoad, source_rows, view_loads
from qarm_features.feature_store.views.feature_views import Release, log_views, release_view
from qarm_features.feature_store.views.vector_views import (
    USER_EMBEDDING_VIEW,
    PublishedVectors,
    user_embedding_views,
    vector_views,
)
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import ITEM_COUNTERS, USER_IMPRESSIONS


@contextlib.contextmanager
def planned_loads(
    spark: SparkSession, settings: Settings, store: FeatureStore, release: Release
) -> Iterator[tuple[PublishedVectors, list[ViewLoad], Publication]]:
    """Check the rows of a release and yield what a publication of this moment loads.

    Args:
        spark: Session that reads Delta.
        settings: Settings of the project.
        store: Feature store.
        release: Release to publish.

    Yields:
        Vectors of the release's encoder version, rows of each view, and a publication that has deleted nothing yet.

    Raises:
        ReleaseError: Rows of the tables would be served wrongly.
    """
    moment = datetime.now(UTC)
    codes = release_view(settings, release)
    check_codes(source_rows(spark, settings, codes), release)
    vectors, user_views = vectors_to_publish(spark, settings, store, release), user_embedding_views(settings)
    for view in user_views:
        check_user_embeddings(spark, view, moment)
    others = [*log_views(settings), *user_views]
    emptied = _unpublished_views(settings, store)
    of_release = [codes, *vector_views(settings, vectors)]
    with view_loads(spark, settings, moment, of_release=of_release, others=others, emptied=emptied) as loads:
        rows = {load.view.name: load.count for load in loads}
        held_back = {load.view.name: load.held_back for load in loads if load.held_back}
        published = Publication(moment, store.config.online_store.type, rows, held_back=held_back)
        published.expires_in = keys_expire(store)
        yield vectors, loads, published


def _unpublished_views(settings: Settings, store: FeatureStore) -> list[FeatureView]:
    """Return the views that were published under other settings, whose rows would otherwise be served for ever."""
    names: list[str] = []
    if settings.behavior.impression_length == 0:
        names += [USER_IMPRESSIONS.name, ITEM_COUNTERS.name]
    if settings.publishing.user_embeddings is None:
        names.append(USER_EMBEDDING_VIEW)
    views = store.registry.list_feature_views(store.project, allow_cache=False)
    return [view for view in views if view.name in names]
