"""Jobs run on YARN in cluster mode: driver and executors are containers that share no folder, and all they make is on S3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import obstore
import pytest
import yaml

from qarm_features.cli.env_pack import write_pack
from qarm_features.settings.load import load_settings
from qarm_features.storage.tables import ITEMS, USER_BEHAVIOR
from qarm_features.storage.warehouse import Warehouse
from qarm_features.telemetry.stage_log import last_runs
from tests.jobs.yarn_cluster import PACKAGES, SPARK_HOME, YarnCluster, fetched_jars
from tests.s3_server import store_of
from tests.toy_catalog import SETTINGS, write_toy_project

ROOT = Path(__file__).resolve().parents[2]
SPARK_PACKAGES = "io.delta:delta-spark_4.2_2.13:4.4.0,org.apache.hadoop:hadoop-aws:3.5.0"
OF_SPARK = "org.apache.hadoop:hadoop-client-api,org.apache.hadoop:hadoop-client-runtime"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.fixture
def yarn(tmp_path):
    cluster = YarnCluster(tmp_path / "yarn", fetched_jars(tmp_path / "ivy", PACKAGES))
    yield cluster
    cluster.stop()


@pytest.fixture
def pack(tmp_path) -> Path:
    """The environment of containers, as `qarm env pack` writes it, without torch."""
    write_pack(tmp_path / "qarm-env.pex", ["spark", "feast", "redis", "objects"])
    return tmp_path / "qarm-env.pex"


def project_in_a_bucket(folder: Path, bucket: str, variables: dict[str, str]) -> Path:
    """Writes the settings of a toy project whose sources, tables and artifacts are in a bucket."""
    toy, settings = write_toy_project(folder / "toy"), yaml.safe_load(SETTINGS)
    store = store_of(bucket, variables)
    for source in ("items", "interactions"):
        file = toy / "catalog" / f"{source}.parquet"
        obstore.put(store, f"catalog/{file.name}", file.read_bytes())
        settings[source]["path"] = f"{bucket.replace('s3://', 's3a://')}/catalog/{file.name}"
    settings |= {"warehouse": f"{bucket.replace('s3://', 's3a://')}/data", "artifacts": f"{bucket}/artifacts"}
    (folder / "qarm.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return folder / "qarm.yaml"


def properties(folder: Path, variables: dict[str, str]) -> dict[str, str]:
    """Returns Spark's settings: the S3 server of the tests, small containers, and the variables of both kinds of them."""
    # A pack looks on the path for the very version of Python that wrote it.
    path = os.pathsep.join([f"{sys.base_prefix}/bin", "/usr/bin", "/bin"])
    of_containers = {**variables, "PYSPARK_PYTHON": "./qarm-env.pex", "PEX_ROOT": str(folder / "pex"), "PATH": path}
    return {
        "spark.hadoop.fs.s3a.endpoint": variables["AWS_ENDPOINT_URL"],
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
        "spark.yarn.am.waitTime": "900s",  # the pack is unpacked first
        "spark.driver.memory": "1g",
        "spark.executor.memory": "1g",
        "spark.executor.instances": "1",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.ui.enabled": "false",
        **{f"spark.yarn.appMasterEnv.{name}": value for name, value in of_containers.items()},
        **{f"spark.executorEnv.{name}": value for name, value in of_containers.items()},
    }


def test_jobs_run_in_containers_that_share_no_folder_and_leave_everything_in_the_bucket(
    yarn, pack, bucket, s3_server, tmp_path
):
    config = project_in_a_bucket(tmp_path, bucket, s3_server.variables)
    lines = [f"{name} {value}" for name, value in properties(tmp_path, s3_server.variables).items()]
    (tmp_path / "submit.conf").write_text("\n".join(lines))
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYSPARK_PYTHON")}
    environment = {
        **kept,
        "SPARK_HOME": str(SPARK_HOME),
        "HADOOP_CONF_DIR": str(yarn.conf),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    submit = [SPARK_HOME / "bin" / "spark-submit", "--master", "yarn", "--deploy-mode", "cluster"]
    submit += [
        "--properties-file",
        tmp_path / "submit.conf",
        "--packages",
        SPARK_PACKAGES,
        "--exclude-packages",
        OF_SPARK,
    ]
    submit += ["--files", f"{config},{pack}"]

    for job in ("ingest_catalog", "build_user_behavior"):
        command = [*submit, "--name", job, ROOT / "spark_jobs" / f"{job}.py", "--config", "qarm.yaml"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:] + yarn.said()

    settings = load_settings(config)
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    assert warehouse.arrow(ITEMS).count_rows() == 64
    assert warehouse.arrow(USER_BEHAVIOR).count_rows() == 500
    assert {"ingest_catalog", "build_user_behavior"} <= set(last_runs(settings))
    assert yarn.containers() >= 4  # a driver and an executor of each job
