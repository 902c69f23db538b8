"""Configurations for Feast's own universal tests: the bulk engine, the Spark offline store, Redis and SQLite.

Feast imports this module in the process of its tests, by the name in FULL_REPO_CONFIGS_MODULE. Its tests take the online
stores from here, but name the batch engine and the default offline store themselves. This module replaces both before the
tests read them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from feast.infra.offline_stores.contrib.spark_offline_store.tests.data_source import SparkDataSourceCreator

from tests.universal.feature_repos import integration_test_repo_config
from tests.universal.feature_repos.universal.data_sources import file

ENGINE = os.environ["QARM_TEST_ENGINE"]
AVAILABLE_ONLINE_STORES = {
    "redis": ({"type": "redis", "connection_string": os.environ["QARM_TEST_REDIS"]}, None),
    "sqlite": ({"type": "sqlite"}, None),
}


class OneSparkSession(SparkDataSourceCreator):
    """Feast's own data sources on Spark, with one session for all tests."""

    def teardown(self):
        """Does nothing: all tests share the session, and the tables stand in a temporary folder."""


@dataclass(eq=False, repr=False)
class OnEngine(integration_test_repo_config.IntegrationTestRepoConfig):
    """Feast's test configuration with our engine."""

    batch_engine: dict = field(default_factory=lambda: {"type": ENGINE})


AVAILABLE_OFFLINE_STORES = [("local", OneSparkSession)]
file.FileDataSourceCreator = OneSparkSession
integration_test_repo_config.IntegrationTestRepoConfig = OnEngine
