"""Keys of Redis that expire: a publication renews them, and people are told until when they last.

In: a feature store whose online store may have ``key_ttl_seconds``. Out: remarks, and keys without a time to live where the
setting was taken back.
"""

from __future__ import annotations

from collections.abc import Sequence

from feast import FeatureStore, FeatureView
from feast.errors import FeastObjectNotFoundException

from qarm_features.feature_store.publishing.release_manifest import ReleaseError
from qarm_features.feature_store.views.feature_views import ITEM_SERVICE


def keys_expire(store: FeatureStore) -> int | None:
    """Return the seconds after which a key expires, by the setting ``key_ttl_seconds``; None for never."""
    return getattr(store.config.online_store, "key_ttl_seconds", None) or None


def take_back_expiry(store: FeatureStore, views: Sequence[FeatureView], keys_per_second: int) -> int:
    """Keep keys that an earlier ``key_ttl_seconds`` would let expire, where the setting is gone.

    Writing to a key does not take its time to live off.

    Args:
        store: Feature store.
        views: Views that were loaded.
        keys_per_second: Largest number of Redis keys to read per second.

    Returns:
        Number of keys that would have expired.
    """
    config = store.config
    if config.online_store.type != "redis" or config.entity_key_serialization_version != 3 or keys_expire(store):
        return 0
    from qarm_features.feature_store.publishing.redis_views import keep_for_ever, seconds_left

    expiring = [view for view in views if any(seconds >= 0 for seconds in seconds_left(config, view))]
    return sum(keep_for_ever(config, view, keys_per_second) for view in expiring)


def expiry_remark(store: FeatureStore) -> str:
    """Return when keys of the promoted release expire; empty if they never do.

    Raises:
        ReleaseError: Redis holds no key of the promoted release, because all have expired.
    """
    seconds = keys_expire(store)
    if seconds is None or store.config.entity_key_serialization_version != 3:
        return ""
    from qarm_features.feature_store.publishing.redis_views import seconds_left

    try:
        service = store.registry.get_feature_service(ITEM_SERVICE, store.project)
    except FeastObjectNotFoundException:
        return f"keys expire {seconds:,} s after a publication (key_ttl_seconds)"
    view = store.registry.get_feature_view(service.feature_view_projections[0].name, store.project)
    left = seconds_left(store.config, view)
    if not left:
        raise ReleaseError(
            f"Redis holds no row of {view.name}, which is served: keys expire {seconds:,} s after a publication, because "
            "key_ttl_seconds is set. Run: qarm publish-features"
        )
    soonest = min((one for one in left if one >= 0), default=None)
    when = "none of them has a time to live" if soonest is None else f"the first of {view.name} in {soonest:,} s"
    return f"keys expire {seconds:,} s after a publication (key_ttl_seconds), {when}"
