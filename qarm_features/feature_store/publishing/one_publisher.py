"""Exclusive access for a publisher, by a lease in the registry that all publishers share.

In: a feature store and settings. Out: a context in which no other publisher changes what readers are served.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator

from feast import FeatureStore

from qarm_features.feature_store.feast_internals import registry_engine
from qarm_features.feature_store.publishing.publisher_lease import PublisherLease
from qarm_features.feature_store.publishing.release_manifest import publisher
from qarm_features.settings.load import Settings

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def one_publisher(store: FeatureStore, settings: Settings) -> Iterator[Callable[[], None]]:
    """Take the publishing lease and give it back at the end.

    Args:
        store: Feature store.
        settings: Settings of the project.

    Yields:
        Function that renews the lease, and raises ``LeaseError`` if another publisher has taken it.

    Raises:
        LeaseError: Another publisher holds the lease.
    """
    engine = registry_engine(store.registry)
    if engine is None:
        kind = type(store.registry).__name__
        _log.warning("The registry is a %s, not a SQL registry. Two publishers could run at the same time.", kind)
        yield lambda: None
        return
    holder = f"{publisher(settings)}@{socket.gethostname()} (process {os.getpid()})"
    with PublisherLease(engine, store.project, holder, settings.publishing.lease_seconds).held() as lease:
        yield lease.check
