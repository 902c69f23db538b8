"""Exclusive access for a publisher, by a lease in the registry that all publishers share.

In: a feature store and settings. Out: a context in which no other publisher changes what readers are served.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from feast import FeatureStore

from qarm_features.feature_store.feast_internals import registry_engine
from qarm_features.feature_store.publishing.publisher_lease import PublisherLease
from qarm_features.feature_store.publishing.release_manifest import publisher
from qarm_features.feature_store.registry_errors import naming_the_registry
from qarm_features.settings.load import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def one_publisher(
    store: FeatureStore, settings: Settings, spark: SparkSession | None = None
) -> Iterator[Callable[[], None]]:
    """Take the publishing lease and give it back at the end. Writes to the registry fail once another publisher took it.

    Args:
        store: Feature store.
        settings: Settings of the project.
        spark: Session that loads rows. Its jobs are cancelled if another publisher takes the lease.

    Yields:
        Function that renews the lease, and raises ``LeaseError`` if another publisher has taken it.

    Raises:
        LeaseError: Another publisher holds the lease, or has taken it in the meantime.
        RegistryError: The registry stayed locked for longer than a command waits.
    """
    engine = registry_engine(store.registry)
    if engine is None:
        kind = type(store.registry).__name__
        _log.warning("The registry is a %s, not a SQL registry. Two publishers could run at the same time.", kind)
        yield lambda: None
        return
    holder = f"{publisher(settings)}@{socket.gethostname()} (process {os.getpid()})"
    on_lost = (lambda: None) if spark is None else spark.sparkContext.cancelAllJobs
    lease = PublisherLease(engine, store.project, holder, settings.publishing.lease_seconds, on_lost=on_lost)
    with naming_the_registry(store.config), lease.held():
        yield lease.check
