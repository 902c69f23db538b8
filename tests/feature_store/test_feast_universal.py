"""Feast's own universal online and materialization tests, run against the bulk engine.

Feast's package does not hold these tests. FEAST_CHECKOUT names a checkout of Feast's repository. Only the tests are copied
from it, and the installed Feast is tested. FEAST_CHECKOUT_PYTHON names a Python with this project's packages and with those
that the tests import: testcontainers, minio, assertpy, python-keycloak, grpcio, grpcio-health-checking, grpcio-reflection,
cryptography, boto3, google-cloud-bigquery, -bigtable, -datastore and -storage, pytest-xdist, pytest-asyncio, pytest-env and
pytest-mock.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.feature_store.online_repos import BULK

CHECKOUT, PYTHON = os.environ.get("FEAST_CHECKOUT"), os.environ.get("FEAST_CHECKOUT_PYTHON")
FILES = (
    "online_store/test_universal_online.py",
    "online_store/test_universal_online_types.py",
    "online_store/test_universal_e2e.py",
    "materialization/test_universal_materialization.py",
    "offline_store/test_universal_materialization.py",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not (CHECKOUT and PYTHON), reason="FEAST_CHECKOUT and FEAST_CHECKOUT_PYTHON do not name a checkout and a Python"
    ),
]


def test_feasts_universal_tests_pass_with_the_bulk_engine(tmp_path, redis_server):
    shutil.copytree(Path(CHECKOUT) / "sdk/python/tests", tmp_path / "tests")
    shutil.copy(Path(CHECKOUT) / "sdk/python/pytest.ini", tmp_path)
    here = Path(__file__).parent
    environment = os.environ | {
        "FULL_REPO_CONFIGS_MODULE": "feast_repo_configs",
        "FEAST_IS_LOCAL_TEST": "True",
        "PYTHONPATH": f"{here}:{here.parents[1]}",
        "PYSPARK_PYTHON": PYTHON,
        "QARM_TEST_ENGINE": BULK,
        "QARM_TEST_REDIS": redis_server.connection_string,
    }
    files = [f"tests/integration/{name}" for name in FILES]
    without_docker = ["-k", "not dynamo"]  # a test of DynamoDB starts its container even if that store is not asked for
    flags = ["--integration", "--junitxml=report.xml", "-p", "no:cacheprovider", *without_docker]
    command = [PYTHON, "-m", "pytest", *files, *flags]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert (tmp_path / "report.xml").is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    cases = ElementTree.parse(tmp_path / "report.xml").iter("testcase")
    ended = {f"{case.get('classname')}.{case.get('name')}": [child.tag for child in case] for case in cases}
    failed = sorted(name for name, tags in ended.items() if {"failure", "error"} & set(tags))
    assert failed == [], done.stdout[-10_000:]
    assert sum("skipped" not in tags for tags in ended.values()) >= 20
