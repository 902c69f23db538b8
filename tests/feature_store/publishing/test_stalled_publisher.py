"""A publisher that stood still for longer than its lease changes nothing afterwards, and a locked registry is named."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
import yaml
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from qarm_features.feature_store.publishing.one_publisher import one_publisher
from qarm_features.feature_store.publishing.publisher_lease import LeaseError, PublisherLease
from qarm_features.feature_store.publishing.release_list import release_lines
from qarm_features.feature_store.publishing.release_manifest import ReleaseManifest, write_manifest
from qarm_features.feature_store.publishing.releases import promote_release
from qarm_features.feature_store.registry_errors import RegistryError
from qarm_features.feature_store.views import feature_views
from qarm_features.feature_store.views.feature_views import Release, open_feature_store
from qarm_features.settings.load import load_settings
from tests.feature_store.stock_store import add_release, stock_store

CODES = {item: [0, item] for item in range(3)}
PROMOTE = """
import sys
from qarm_features.feature_store.publishing import releases
from qarm_features.settings.load import load_settings
flip = releases._flip
def wait_and_flip(*arguments):
    print("about to flip", flush=True)
    sys.stdin.readline()
    flip(*arguments)
releases._flip = wait_and_flip
try:
    releases.promote_release(load_settings(sys.argv[1]), 1)
except ValueError as error:
    print(type(error).__name__, error, flush=True)
else:
    print("flipped", flush=True)
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def project(request, tmp_path):
    """The settings of a project with releases 0, 1 and 2, of which 0 is served, and a registry of each kind."""
    store = stock_store(tmp_path, {"type": "sqlite", "path": "online.db"}, CODES)
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        path = tmp_path / "feature_repo" / "feature_store.yaml"
        config = yaml.safe_load(path.read_text())
        config["registry"]["path"] = server.registry_url(server.new_database())
        path.write_text(yaml.safe_dump(config))
        store = open_feature_store(tmp_path / "feature_repo")
    with (tmp_path / "qarm.yaml").open("a") as file:
        file.write("publishing: {lease_seconds: 1, publisher: ann}\n")
    settings = load_settings(tmp_path / "qarm.yaml")
    for version in (0, 1, 2):
        add_release(store, tmp_path, version, CODES)
        write_manifest(settings, ReleaseManifest(Release(version, 0, 2, 4096, version, 3)))
    promote_release(settings, 0)
    return settings


def served(settings) -> list[int]:
    return [line.codebook_version for line in release_lines(settings) if line.served_by]


def config_of(settings) -> str:
    return str(settings.feature_repo_path.parent / "qarm.yaml")


def test_a_publisher_that_was_stopped_for_longer_than_its_lease_does_not_flip(project):
    command = [sys.executable, "-c", PROMOTE, config_of(project)]
    stalled = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert stalled.stdout.readline() == "about to flip\n"  # its last check of the lease has passed
    stalled.send_signal(signal.SIGSTOP)
    time.sleep(1.1)
    promote_release(project, 2)  # waits until the lease has expired

    stalled.stdin.write("\n")
    stalled.stdin.flush()
    stalled.send_signal(signal.SIGCONT)
    said = stalled.communicate(timeout=60)[0]

    assert said.startswith("LeaseError The publishing lease of 1 s expired while this process stood still, and another")
    assert served(project) == [2]
    assert [line.promoted is not None for line in release_lines(project)] == [True, False, True]


def test_a_write_to_the_registry_fails_in_the_middle_of_a_publication_once_the_lease_is_lost(project):
    store = open_feature_store(project.feature_repo_path)
    engine, stopped = store.registry.write_engine, threading.Event()
    lease = PublisherLease(engine, store.project, "ann", 0.6, on_lost=stopped.set)

    with pytest.raises(LeaseError, match="another publisher took it"), lease.held():
        with create_engine(engine.url).begin() as database:  # another publisher, after ann's lease has expired
            database.execute(text("UPDATE qarm_publisher_lease SET token = 'bob'"))
        with pytest.raises(LeaseError):
            store.apply(store.get_feature_service("item_semantic_id"))
            store.delete_feature_service("item_semantic_id")
        assert stopped.wait(5)  # the work that goes on is stopped too
        raise RuntimeError("A job of Spark was cancelled")

    assert served(project) == [0]
    store.apply(store.get_feature_service("item_semantic_id"))  # without a lease the registry is as it was


@contextlib.contextmanager
def locked(settings):
    """A process that locks the registry; yields its process ID."""
    url = open_feature_store(settings.feature_repo_path).registry.write_engine.url.render_as_string(hide_password=False)
    lock = "BEGIN EXCLUSIVE" if url.startswith("sqlite") else "LOCK TABLE feature_services, qarm_publisher_lease"
    code = (
        "import sqlalchemy, sys, time\n"
        "with sqlalchemy.create_engine(sys.argv[1]).connect() as database:\n"
        "    database.exec_driver_sql(sys.argv[2])\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, url, lock], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "locked\n"
    yield holder
    holder.kill()
    holder.communicate()


def test_a_registry_that_stays_locked_is_waited_for_and_then_named_in_one_line(project):
    registry = open_feature_store(project.feature_repo_path).config.registry.path
    wait_shortly(project, 1_000)
    with locked(project) as holder:
        started = time.monotonic()
        with pytest.raises(RegistryError) as told:
            promote_release(project, 1)
        waited = time.monotonic() - started
    expected = f"process {holder.pid} ({sys.executable} -c" if "sqlite" in registry else "by another connection. Look"
    assert expected in str(told.value)
    assert "\n" not in str(told.value)
    assert "Wait until it ends, or end it, and run the same command again." in str(told.value)
    assert 0.9 < waited < 8
    promote_release(project, 1)
    assert served(project) == [1]


def wait_shortly(settings, milliseconds: int) -> None:
    """Lets commands wait for the registry for so long, as people may set it."""
    path = settings.feature_repo_path / "feature_store.yaml"
    config = yaml.safe_load(path.read_text())
    is_sqlite = config["registry"]["path"].startswith("sqlite")
    limit = {"timeout": milliseconds / 1000} if is_sqlite else {"options": f"-c lock_timeout={milliseconds}"}
    config["registry"]["sqlalchemy_config_kwargs"] = {"connect_args": limit}
    path.write_text(yaml.safe_dump(config))


@pytest.mark.slow
def test_a_sqlite_registry_that_is_locked_for_seven_seconds_is_waited_for(tmp_path):
    store = stock_store(tmp_path, {"type": "sqlite", "path": "online.db"}, CODES)
    settings = load_settings(tmp_path / "qarm.yaml")
    write_manifest(settings, ReleaseManifest(Release(0, 0, 2, 4096, 0, 3)))
    with locked(settings) as holder:
        threading.Timer(7.0, os.kill, (holder.pid, signal.SIGKILL)).start()
        promote_release(settings, 0)
    assert served(settings) == [0]
    assert store.project


def test_two_publishers_at_once_one_of_them_flips(project):
    outcomes = []

    def promote(version: int) -> None:
        try:
            with one_publisher(open_feature_store(project.feature_repo_path), project):
                time.sleep(0.8)
            outcomes.append("done")
        except LeaseError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=promote, args=(version,)) for version in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcome == "done" for outcome in outcomes) == [False, True]
    assert any("is publishing in project" in outcome for outcome in outcomes)


def test_a_registry_without_a_lock_is_not_changed_by_the_limit(tmp_path):
    stock_store(tmp_path, {"type": "sqlite", "path": "online.db"}, CODES)

    store = open_feature_store(tmp_path / "feature_repo", wait_seconds=12)

    with sqlite3.connect(tmp_path / "feature_repo" / "registry.db") as database:
        assert database.execute("SELECT count(*) FROM feature_services").fetchone()[0] == 1
    assert store.config.registry.sqlalchemy_config_kwargs["connect_args"] == {"timeout": 12}


def test_a_pooler_that_takes_no_options_gets_none(tmp_path, monkeypatch):
    stock_store(tmp_path, {"type": "sqlite", "path": "online.db"}, CODES)
    opened, tried = feature_views.FeatureStore, []

    def pooled(config):
        tried.append(config.registry.sqlalchemy_config_kwargs)
        if "connect_args" in tried[-1]:
            raise OperationalError("connect", {}, Exception("unsupported startup parameter: options"))
        return opened(config=config)

    monkeypatch.setattr(feature_views, "FeatureStore", pooled)

    assert open_feature_store(tmp_path / "feature_repo").list_feature_services()
    assert tried == [{"echo": False, "connect_args": {"timeout": 30.0}}, {"echo": False}]
