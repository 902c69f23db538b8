"""One Spark session for the whole suite, and one small project that is run once from catalog to ranking."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("FEAST_USAGE", "False")
# Threads of OpenMP sleep while they wait. By default they spin, and take the cores of Spark and of other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["PYSPARK_PYTHON"] = sys.executable


import pytest

from qarm_features.jobs.context import JobContext
from qarm_features.jobs.spark_session import start_session
from qarm_features.settings.load import Settings, load_settings
from qarm_features.settings.sections import SparkOptions
from tests.s3_server import S3Server
from tests.server_programs import count_skipped, require_s3_server
from tests.toy_catalog import all_jobs, open_project, write_toy_project

ROOT = Path(__file__).parents[1]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps tests together that share something dear, where several processes share the suite (``pytest -n 2``).

    The tests of a file share its fixtures, all files that read the finished toy project share that, and those of a follower
    share a published project.
    """
    from xdist.scheduler import LoadScopeScheduling

    reads_project = re.compile(r"def \w+\([^)]*\bproject\b")
    files = {file.relative_to(ROOT).as_posix(): file.read_text() for file in (ROOT / "tests").rglob("test_*.py")}
    together = {name for name, text in files.items() if reads_project.search(text) and "def project(" not in text}

    class BySharing(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            if file.startswith("tests/following/"):
                return "a published project"
            return "the toy project" if file in together else file

    return BySharing(config, log)


def pytest_terminal_summary(terminalreporter):
    """Counts in one line the tests that were skipped because a server program is not installed."""
    line = count_skipped(str(report.longrepr) for report in terminalreporter.getreports("skipped"))
    if line:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def spark():
    """A local session with two cores and Delta."""
    # Hundreds of small queries, each run once: the JVM's second compiler would take half of the time and give nothing back.
    # Code of the first one has larger frames, and a fit of ALS deep plans. Its cache holds 48 MB by default, which Spark's
    # generated classes fill: a quarter of the JVM's time then went into sweeping it.
    java = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=512m -XX:-UseCodeCacheFlushing -XX:+UseSerialGC -Xss8m"
    conf = {"spark.sql.shuffle.partitions": "4", "spark.driver.extraJavaOptions": java}
    conf |= {"spark.python.daemon.module": "tests.spark_daemon", "spark.executorEnv.PYTHONPATH": str(ROOT)}
    # To generate and compile Java for a plan costs more than to interpret it on a few rows. `make test-slow` compiles.
    if not os.environ.get("QARM_TEST_CODEGEN"):
        conf |= {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    session = start_session(SparkOptions(master="local[2]", conf=conf), name="tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def project(tmp_path_factory, spark) -> JobContext:
    """A toy project of 64 items after every job has run; tests may read it, none may change it."""
    from qarm_features.jobs.command import run_job
    from qarm_features.jobs.skipping import inputs, record_run

    context = open_project(write_toy_project(tmp_path_factory.mktemp("project")), spark)
    for job in all_jobs():
        seen = inputs(job, context.settings)
        record_run(job, context.settings, seen, run_job(job, context), 1.0)
    return context


@pytest.fixture
def fresh_project(tmp_path, spark) -> JobContext:
    """A toy project of 64 items before any job has run."""
    return open_project(write_toy_project(tmp_path), spark)


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Settings of an empty folder."""
    return load_settings(write_toy_project(tmp_path) / "qarm.yaml")


@pytest.fixture(scope="session")
def s3_server():
    """A running S3 server; skips where the packages of one are not installed."""
    require_s3_server()
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch, tmp_path) -> str:
    """The URI of a new bucket, which this process and those that it starts reach; copies are in ``tmp_path / "cache"``."""
    for name, value in {**s3_server.variables, "QARM_CACHE_DIR": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.new_bucket()}"


@pytest.fixture
def reached_by_executors(spark, bucket, s3_server, tmp_path):
    """A bucket that the Python workers of executors reach too, whose copies are in ``tmp_path / "cache_of_executors"``."""
    environment = spark.sparkContext.environment
    before = dict(environment)
    environment.update({**s3_server.variables, "QARM_CACHE_DIR": str(tmp_path / "cache_of_executors")})
    yield bucket
    environment.clear()
    environment.update(before)
