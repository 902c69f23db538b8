"""Checks persist their rows until a job ends. Without a job each test ends it, for Spark compares every query with them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nothing_stays_cached(spark):
    yield
    spark.catalog.clearCache()
