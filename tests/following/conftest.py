"""A project whose catalog and click log are folders, after every job up to the publication. Its vectors are precomputed."""

from __future__ import annotations

import shutil

import pytest

from tests.following.followed import FollowedProject, published_project


@pytest.fixture(scope="session")
def published(tmp_path_factory, spark):
    """The folder of a published project of 64 items. Nobody may change it."""
    return published_project(tmp_path_factory.mktemp("published"), spark)


@pytest.fixture
def followed(published, tmp_path, spark) -> FollowedProject:
    """A published project of its own."""
    return FollowedProject(shutil.copytree(published, tmp_path / "project"), spark)
