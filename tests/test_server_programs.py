"""Without servers, the tests that need one are skipped and counted in one line; nothing here starts a server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import server_programs
from tests.feature_store.publishing import test_redis_views  # noqa: F401 pytester forgets what is first imported inside

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent

CONFTEST = """
from tests.conftest import pytest_terminal_summary
from tests.feature_store.conftest import postgres_server, redis_server
from tests.feature_store.publishing.test_redis_views import online_store
"""
TESTS = """
import pytest
from tests.feature_store.redis_server import RedisServer

def test_on_redis(redis_server):
    raise AssertionError

@pytest.mark.parametrize("number", range(2))
def test_on_postgres(postgres_server, number):
    raise AssertionError

def test_on_a_topology(online_store):
    raise AssertionError

def test_that_starts_a_server_itself(tmp_path):
    RedisServer(tmp_path).start()

def test_that_asks_inside_a_test(request):
    request.getfixturevalue("redis_server")

def test_that_needs_none():
    pass

def test_that_is_skipped_for_another_reason():
    pytest.skip("later")
"""


def test_every_fixture_skips_without_its_server_and_the_summary_counts_them_in_one_line(pytester, monkeypatch):
    monkeypatch.setenv("QARM_TEST_WITHOUT", "redis, postgres")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)

    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=1, skipped=9)
    lines = [line for line in result.outlines if "is not installed" in line]
    assert lines == [
        "6 tests were skipped because redis-server is not installed; 2 because PostgreSQL is not installed."
    ]


def test_a_suite_that_skips_nothing_says_nothing():
    assert server_programs.count_skipped(["Skipped: later", "Skipped: needs libsndfile"]) == ""
    assert server_programs.count_skipped([]) == ""
    one = server_programs.count_skipped(["('a.py', 3, 'Skipped: openssl is not installed')"])
    assert one == "1 test was skipped because openssl is not installed."


@pytest.mark.parametrize(
    ("word", "ask"),
    [
        ("redis", server_programs.redis_program),
        ("redis", server_programs.redis_program_with_tls),
        ("postgres", server_programs.postgres_programs),
        ("openssl", server_programs.openssl_program),
        ("chromium", server_programs.chromium_program),
    ],
)
def test_a_hidden_program_and_one_that_is_nowhere_are_skipped_alike(word, ask, monkeypatch):
    monkeypatch.setenv("QARM_TEST_WITHOUT", word)
    with pytest.raises(pytest.skip.Exception, match="is not installed"):
        ask()

    monkeypatch.setenv("QARM_TEST_WITHOUT", "")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(server_programs, "_debian_postgres", list)
    monkeypatch.setattr(server_programs, "_folders_of", lambda package: [])
    with pytest.raises(pytest.skip.Exception, match="is not installed"):
        ask()


def test_an_installed_program_is_preferred_and_the_package_is_the_fallback(tmp_path, monkeypatch):
    packaged = tmp_path / "package" / "_binaries" / "linux" / "valkey-server"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    installed = tmp_path / "bin" / "redis-server"
    installed.parent.mkdir()
    installed.touch(mode=0o755)
    monkeypatch.setenv("QARM_TEST_WITHOUT", "")
    monkeypatch.setattr(server_programs, "_folders_of", lambda package: [tmp_path / "package"])

    monkeypatch.setenv("PATH", str(installed.parent))
    assert server_programs.redis_program() == str(installed)
    monkeypatch.setenv("PATH", "/nowhere")
    assert server_programs.redis_program() == str(packaged)


def test_no_other_file_names_a_server_program():
    """A test that started one by its name would fail, not skip, on a machine without it."""
    others = [path for path in HERE.rglob("*.py") if path.name not in ("server_programs.py", Path(__file__).name)]

    found = [
        path.name
        for path in others
        if re.search(r"""["'](redis-server|valkey-server|initdb|openssl|chromium)["']""", path.read_text())
    ]

    assert len(others) > 100
    assert found == ["postgres_server.py"]  # it joins the folder that it was given and the program's name
