"""Of two publishers at the same time one gets the lease and the other an error. A killed one blocks others only briefly."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import create_engine, text

from qarm_features.feature_store.publishing.publisher_lease import LeaseError, PublisherLease

HOLD = """
import sys, time
from sqlalchemy import create_engine
from qarm_features.feature_store.publishing.publisher_lease import PublisherLease
with PublisherLease(create_engine(sys.argv[1]), "shop", "ann", 1.5).held():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/registry.db"
    server = request.getfixturevalue("postgres_server")
    return server.registry_url(server.new_database())


@pytest.fixture
def engine(url):
    engine = create_engine(url)
    yield engine
    engine.dispose()


def lease(engine, holder, seconds=1.5, project="shop"):
    return PublisherLease(engine, project, holder, seconds)


def test_the_second_publisher_is_told_who_is_at_work(engine):
    with lease(engine, "ann@here").held():
        started = time.monotonic()
        told = pytest.raises(
            LeaseError, match="ann@here is publishing in project shop, and only one publisher may run at a time"
        )
        with told, lease(engine, "bob@there").held():
            pass
        assert time.monotonic() - started < 1.5  # as soon as the first one has renewed
        with lease(engine, "bob@there", project="another").held():
            pass

    with lease(engine, "bob@there").held() as held:
        held.check()


def test_a_killed_publisher_blocks_the_next_no_longer_than_its_lease(url, engine):
    killed = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
    assert killed.stdout.readline() == "held\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    started = time.monotonic()

    with lease(engine, "bob").held():
        waited = time.monotonic() - started

    assert waited < 3


def test_of_publishers_that_begin_at_once_one_wins(engine):
    won, told = [], []
    together = threading.Barrier(4)

    def publish(name):
        together.wait()
        try:
            with lease(engine, name).held() as held:
                time.sleep(1.2)
                held.check()
                won.append(name)
        except LeaseError:
            told.append(name)

    threads = [threading.Thread(target=publish, args=(f"publisher {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(won), len(told)) == (1, 3)


def test_a_publisher_that_stood_still_for_too_long_does_not_flip(engine):
    with lease(engine, "ann").held() as held:
        with engine.begin() as database:  # what another publisher does after ann's lease has expired
            database.execute(text("UPDATE qarm_publisher_lease SET token = 'bob'"))

        with pytest.raises(
            LeaseError,
            match="The publishing lease of 1.5 s expired while this process stood still, and another",
        ):
            held.check()

    with engine.connect() as database:
        assert database.execute(text("SELECT token FROM qarm_publisher_lease")).scalar() == "bob"
