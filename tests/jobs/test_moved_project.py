"""A project can be moved and copied: it runs on where it lies, and a copy does not touch the project it came from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qarm_features.feature_store import SemanticIDReader
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.jobs.publish_features import publish_features
from qarm_features.jobs.skipping import is_current
from tests.toy_catalog import all_jobs, open_project

QARM = str(Path(sys.executable).with_name("qarm"))


@pytest.fixture
def moved(project, tmp_path):
    """The toy project after all jobs, in another folder."""
    shutil.copytree(project.settings.feature_repo_path.parent, tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


@pytest.mark.slow
def test_only_publishing_runs_again_in_a_moved_project(moved, spark):
    settings = open_project(moved, spark).settings

    waiting = [job.name for job in all_jobs() if not is_current(job, settings)]

    assert waiting == ["publish_features"]


@pytest.mark.slow
def test_a_moved_project_runs_and_is_read_where_it_lies(moved, project):
    done = subprocess.run([QARM, "run"], cwd=moved, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    batch = SemanticIDReader(moved / "feature_repo").item_codes([0, 1])
    assert batch.found.all()
    sources = [view.batch_source.path or view.batch_source.query for view in views(moved / "feature_repo")]
    assert sources
    assert all(str(moved) in source for source in sources)
    assert not any(str(project.settings.warehouse_path) in source for source in sources)


@pytest.mark.slow
def test_a_copy_does_not_write_the_registry_of_the_original(moved, project, spark):
    original = project.settings.feature_repo_path
    before = sorted(view.name for view in views(original))
    assert before

    publish_features(open_project(moved, spark))

    assert sorted(view.name for view in views(original)) == before
    assert all(str(moved) not in str(view.batch_source.to_proto()) for view in views(original))
    assert SemanticIDReader(original).item_codes([0]).found.all()


def views(repo):
    store = open_feature_store(repo)
    return store.registry.list_feature_views(store.project, allow_cache=False)
