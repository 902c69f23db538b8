"""Settings of ``feature_store.yaml`` that decide whether a publication can be right.

In: the configuration of a feature repo. Out: nothing, or an error or a warning that names the setting.
"""

from __future__ import annotations

import logging

from feast import RepoConfig

from qarm_features.feature_store.publishing.release_manifest import ReleaseError

_log = logging.getLogger(__name__)


def require_overwriting(config: RepoConfig) -> None:
    """Refuse a store that keeps a stored row against a published one, and warn of servers that refuse reads meanwhile.

    With ``skip_dedup: false``, Feast's Redis store skips a row whose event time is older than the stored one or equal. When
    an event is retracted, the newest row of its user is older than the stored one: the retracted event would be served for
    ever. A row that was corrected in place, and the time to live of an unchanged row, would not be written either.

    Raises:
        ReleaseError: ``skip_dedup`` is false.
    """
    store = config.online_store
    if store.type == "redis" and not store.skip_dedup:
        raise ReleaseError(
            "skip_dedup in feature_store.yaml is false, must be true. Redis would keep every stored row that is as new as "
            "the published one or newer, and serve retracted events for ever. Set online_store.skip_dedup to true."
        )
    if not config.registry.serve_features_while_materializing:
        _log.warning(
            "serve_features_while_materializing in feature_store.yaml is false: other Feast servers refuse reads of the "
            "views while they are loaded. Set registry.serve_features_while_materializing to true there."
        )
