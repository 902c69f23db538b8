"""The pods of the example do their work: the night's run with executors, the follower, and a driver in cluster mode.

Each pod is a process here, with the command, the variables and the volumes of its manifest; see ``pods_as_processes.py``.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import kubernetes_validate
import pyspark
import pytest
import yaml

from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.objects import any_path
from tests.examples.kubernetes_files import FOLDER, ROOT, manifest, pod_of
from tests.examples.pods_as_processes import Kubernetes, image_environment
from tests.feature_store.redis_server import RedisServer
from tests.free_port import free_port
from tests.jobs.yarn_cluster import fetched_jars
from tests.toy_catalog import SETTINGS, write_toy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
DELTA = "io.delta:delta-spark_4.2_2.13:4.4.0"
SMALL = {
    "spark.driver.memory": "1g", "spark.executor.instances": "1", "spark.executor.cores": "1",
    "spark.executor.memory": "1g", "spark.executor.memoryOverhead": "1g", "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1", "spark.ui.enabled": "false",
}  # fmt: skip


@pytest.fixture(scope="module")
def spark_home(tmp_path_factory) -> Path:
    """Spark as in the image: with Delta among its jars."""
    installed, home = Path(pyspark.__file__).parent, tmp_path_factory.mktemp("spark")
    shutil.copytree(installed / "bin", home / "bin")
    (home / "python").symlink_to(installed / "python")
    (home / "jars").mkdir()
    fetched = fetched_jars(home / "ivy", (DELTA,))
    delta = [jar for jar in fetched if jar.name.startswith(("io.delta_", "io.unitycatalog_"))]
    for jar in [*(installed / "jars").iterdir(), *delta]:
        (home / "jars" / jar.name).symlink_to(jar)
    return home


@pytest.fixture
def redis(tmp_path):
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop(keep=False)


@pytest.fixture
def project(tmp_path, bucket, redis, monkeypatch) -> dict[str, str]:
    """The files of the example's project, about a toy catalog, with the folders and servers of this machine."""
    folder = write_toy_project(tmp_path / "toy")
    data = copy.deepcopy(manifest("ConfigMap", "qarm-project")["data"])
    settings, toy = yaml.safe_load(data["qarm.yaml"]), yaml.safe_load(SETTINGS)
    for source in ("items", "interactions"):
        toy[source]["path"] = str(folder / "catalog" / source)
        toy[source]["format"] = "parquet"
        Path(toy[source]["path"]).mkdir()
        (folder / "catalog" / f"{source}.parquet").rename(Path(toy[source]["path"]) / "first.parquet")
    settings |= {"warehouse": str(folder / "data"), "artifacts": f"{bucket}/artifacts", **toy}
    settings["spark"]["conf"] |= SMALL
    settings["follow"]["metrics_port"] = free_port()
    data["qarm.yaml"] = yaml.safe_dump(settings, sort_keys=False)
    return data


@pytest.fixture
def kubernetes(tmp_path, spark_home, project, s3_server, redis):
    store = {"QARM_REDIS": redis.connection_string, "QARM_REGISTRY_URL": f"sqlite:///{tmp_path}/registry.db"}
    environment = image_environment(spark_home, ROOT, sys.executable)
    account = tmp_path / "account"
    account.mkdir()
    for name in ("namespace", "token"):
        (account / name).write_text("qarm")
    cluster = Kubernetes(tmp_path / "pods", FOLDER, environment, {"qarm-credentials": s3_server.variables | store})
    environment |= {"QARM_ACCOUNT": str(account), "QARM_KUBERNETES": cluster.url}
    environment |= {"QARM_SPARK__MASTER": f"k8s://{cluster.url}"}
    content = copy.deepcopy(manifest("ConfigMap", "qarm-project"))
    cluster.create("configmaps", {**content, "data": project})
    cluster.create("statefulsets", {**copy.deepcopy(manifest("StatefulSet", "qarm-follow")), "status": {"replicas": 0}})
    yield cluster
    cluster.stop()


def start(cluster: Kubernetes, name: str, template: dict, **replaced: str) -> str:
    """Starts a pod of a template as a controller would, and returns its name."""
    pod = copy.deepcopy({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, **template})
    pod["metadata"]["name"] = name
    (container,) = pod["spec"]["containers"]
    for old, new in replaced.items():
        container["args"] = [one.replace(f"qarm {old}", f"qarm {new}") for one in container["args"]]
    cluster.create("pods", pod)
    return name


def end_of(cluster: Kubernetes, pod: str) -> None:
    """Waits for the end of a pod, which must be a good one."""
    code = cluster.processes[pod].wait(timeout=900)
    assert code == 0, cluster.said(pod)[-6000:]


def answer_of(cluster: Kubernetes, pod: str, port: int) -> str:
    """Returns what the probe of a pod gets, as soon as it gets something."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and cluster.processes[pod].poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.5)
    raise AssertionError(cluster.said(pod)[-6000:])


def not_allowed(cluster: Kubernetes, since: int) -> set:
    """Returns what was asked for, from a number of requests on, and what the role of the example does not allow."""
    rules = manifest("Role", "qarm-driver")["rules"]
    allowed = {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    return set(cluster.asked[since:]) - allowed


def check_requests_and_objects(cluster: Kubernetes, since: int = 0) -> None:
    """Checks that the role allows all that was asked for, and that all that was made fits the schema."""
    assert not_allowed(cluster, since) == set()
    for made in cluster.made:
        kubernetes_validate.validate({key: made[key] for key in made if key != "status"}, "1.37", strict=True)


def test_a_night_s_run_and_the_follower_work_as_the_manifests_say(kubernetes, project, bucket):
    port = yaml.safe_load(project["qarm.yaml"])["follow"]["metrics_port"]
    run, follower = pod_of(manifest("CronJob", "qarm-run")), pod_of(manifest("StatefulSet", "qarm-follow"))

    end_of(kubernetes, start(kubernetes, "qarm-run-1", run, run="run --until publish-features"))

    executors = [one for one in kubernetes.made if one["metadata"].get("labels", {}).get("spark-role") == "executor"]
    assert executors != []
    assert [asked.verb for asked in kubernetes.asked if asked.resource == "statefulsets/scale"][:2] == ["patch", "get"]
    assert kubernetes.objects["statefulsets", "qarm-follow"]["spec"]["replicas"] == 1
    assert Artifacts(any_path(f"{bucket}/artifacts"), "codebooks").versions() == [0]

    start(kubernetes, "qarm-follow-0", follower)
    assert "qarm_follow_lag_seconds" in answer_of(kubernetes, "qarm-follow-0", port)
    kubernetes.processes["qarm-follow-0"].terminate()
    end_of(kubernetes, "qarm-follow-0")
    check_requests_and_objects(kubernetes)


def test_a_job_that_is_submitted_in_cluster_mode_has_its_driver_and_its_executor_in_the_cluster(
    kubernetes, project, spark_home
):
    program = f"local://{ROOT}/spark_jobs/ingest_catalog.py"
    here = {
        "spark.driver.memory": "1g",
        "spark.kubernetes.driver.master": kubernetes.url,
        "spark.kubernetes.driver.pod.name": "qarm-ingest",
        "spark.kubernetes.submission.waitAppCompletion": "false",
        "spark.pyspark.python": sys.executable,
    }
    submit = [spark_home / "bin" / "spark-submit", "--master", f"k8s://{kubernetes.url}", "--deploy-mode", "cluster"]
    submit += ["--name", "ingest-catalog", "--properties-file", FOLDER / "submit.conf"]
    submit += [part for pair in here.items() for part in ("--conf", "=".join(pair))]

    subprocess.run(
        [*submit, program, "--config", "/project/qarm.yaml"],
        cwd=ROOT, env=image_environment(spark_home, ROOT, sys.executable), check=True, capture_output=True,
    )  # fmt: skip
    by_the_submitter = len(kubernetes.asked)  # a person's account, which also makes a NetworkPolicy
    end_of(kubernetes, "qarm-ingest")

    assert "ingest_catalog: 864 rows in, 864 out, 0 rejected" in kubernetes.said("qarm-ingest")
    roles = {one["metadata"].get("labels", {}).get("spark-role") for one in kubernetes.made}
    assert {"driver", "executor"} <= roles
    check_requests_and_objects(kubernetes, since=by_the_submitter)
