"""Whoever changes what readers get does it alone, by a lease in the registry that all publishers share."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator

from feast import FeatureStore

from qarm_features.feature_store.publishing.publisher_lease import PublisherLease
from qarm_features.feature_store.publishing.release_manifest import publisher
from qarm_features.settings.load import Settings

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def one_publisher(store: FeatureStore, settings: Settings) -> Iterator[Callable[[], None]]:
    """Takes the lease of publishing and gives it back; yields what checks that it is still held.

    Raises:
        LeaseError: Another publisher is at work.
    """
    engine = getattr(store.registry, "write_engine", None)
    if engine is None:
        _log.warning("The registry is %s, not sql: publishers are not kept apart.", type(store.registry).__name__)
        yield lambda: None
        return
    holder = f"{publisher(settings)}@{socket.gethostname()} (process {os.getpid()})"
    with PublisherLease(engine, store.project, holder, settings.publishing.lease_seconds).held() as lease:
        yield lease.check
