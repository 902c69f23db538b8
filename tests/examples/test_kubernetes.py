"""The manifests for Kubernetes are what its API takes, and name only what this repository has."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
import tomllib

import kubernetes_validate
import pytest
import yaml

import qarm_features
from qarm_features.cli.job_file import launchers_folder
from qarm_features.settings.load import load_settings
from tests.docs.test_commands import parse
from tests.examples.kubernetes_files import FOLDER, MANIFESTS, ROOT, instructions, manifest, pods, project_files

RELEASE = "1.37"
IMAGE = f"qarm-features:{qarm_features.__version__}"


def check(content: dict) -> None:
    kubernetes_validate.validate(content, RELEASE, strict=True)


@pytest.mark.parametrize(("file", "content"), MANIFESTS, ids=[f"{file} {one['kind']}" for file, one in MANIFESTS])
def test_every_manifest_is_what_the_api_of_kubernetes_takes(file, content):
    check(content)


def test_a_wrong_manifest_is_refused():
    misspelled, wrong = (copy.deepcopy(manifest(*one)) for one in (("CronJob", "qarm-run"), ("Service", "redis")))
    misspelled["spec"]["concurencyPolicy"] = "Forbid"
    wrong["spec"]["ports"][0]["port"] = "six"

    with pytest.raises(kubernetes_validate.ValidationError, match="'concurencyPolicy' was unexpected"):
        check(misspelled)
    with pytest.raises(kubernetes_validate.ValidationError, match="'six' is not of type 'integer'"):
        check(wrong)


@pytest.mark.parametrize("name", ["run", "follow", "redis", "executor"])
def test_every_pod_runs_without_rights_on_a_file_system_that_it_cannot_write(name):
    pod = pods()[name]
    (container,) = pod["containers"]
    own = container["securityContext"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert own["readOnlyRootFilesystem"] is True
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert name == "executor" or {"requests", "limits"} <= set(container["resources"])
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted <= {volume["name"] for volume in pod.get("volumes", ())} | {"state", "data"}


def test_only_the_pod_that_starts_executors_has_an_account():
    named = {name: pod.get("serviceAccountName") for name, pod in pods().items()}

    assert named == {"run": "qarm", "follow": None, "redis": None, "executor": None}
    assert all(pods()[name]["automountServiceAccountToken"] is False for name in ("follow", "redis", "executor"))


def test_what_the_manifests_name_is_defined_among_them():
    accounts = {one["metadata"]["name"] for _, one in MANIFESTS if one["kind"] == "ServiceAccount"}
    secrets = set(re.findall(r"secret(?:Key)?Ref: \{name: ([\w-]+)", (FOLDER / "run.yaml").read_text()))
    (stopped,) = manifest("Role", "qarm-driver")["rules"][1]["resourceNames"]

    assert {one["metadata"].get("namespace") for _, one in MANIFESTS} == {"qarm"}
    assert accounts == {"qarm"} == {one["name"] for one in manifest("RoleBinding", "qarm-driver")["subjects"]}
    assert secrets == {"qarm-credentials"}
    assert manifest("StatefulSet", stopped)["spec"]["replicas"] == 1
    assert f"statefulsets/{stopped}/scale" in (FOLDER / "scale_follower.py").read_text()


def test_every_command_in_the_manifests_exists():
    run, follow = pods()["run"]["containers"][0]["args"], pods()["follow"]["containers"][0]["args"]
    (line,) = re.findall(r"qarm run.*", run[-1])
    scripts = set(re.findall(r"/opt/(\w+\.py)", run[-1]))

    parse(shlex.split(line)[1:])
    parse(follow[1:])
    assert follow[0] == "qarm"
    assert scripts == {"scale_follower.py"}
    assert [name for name in scripts if not (FOLDER / name).is_file()] == []


def test_the_settings_of_the_example_are_accepted_and_the_probes_ask_the_port_of_the_metrics(tmp_path, monkeypatch):
    (tmp_path / "qarm.yaml").write_text(project_files()["qarm.yaml"])
    monkeypatch.setenv("POD_IP", "10.0.0.1")
    monkeypatch.setenv("POD_NAME", "qarm-run-0")
    follow = pods()["follow"]["containers"][0]

    settings = load_settings(tmp_path / "qarm.yaml")

    assert settings.spark.conf["spark.kubernetes.container.image"].get_secret_value() == IMAGE
    (port,) = follow["ports"]
    assert port == {"name": "metrics", "containerPort": settings.follow.metrics_port}
    assert {follow[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        "metrics"
    }
    assert manifest("Service", "qarm-follow")["spec"]["ports"][0]["port"] == settings.follow.metrics_port


def test_the_feature_store_of_the_example_is_the_one_for_production():
    ours = yaml.safe_load(project_files()["feature_store.yaml"])
    production = yaml.safe_load((ROOT / "feature_repo" / "feature_store.production.yaml").read_text())

    assert {**ours, "project": production["project"]} == production


def test_the_dockerfile_copies_files_of_the_repository_and_installs_extras_that_exist():
    copied = [words.split() for name, words in instructions() if name == "COPY" and "--from=" not in words]
    sources = [word for words in copied for word in words[:-1] if not word.startswith("--")]
    (asked,) = re.findall(r"\.whl\)\[([\w,]+)\]", dict(_last_run("pip install"))["RUN"])
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sent = set((FOLDER / "Dockerfile.dockerignore").read_text().split("\n"))

    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {f"!{source.removeprefix('./')}" for source in sources} <= sent
    assert set(asked.split(",")) <= set(known)


def test_the_templates_of_spark_submit_are_pods_and_executors_are_the_same_by_both_ways():
    templates = {file.stem: yaml.safe_load(file.read_text()) for file in (FOLDER / "templates").iterdir()}

    for template in templates.values():
        check(template)
    assert templates["executor"] == yaml.safe_load(project_files()["executor.yaml"])
    assert templates["driver"]["spec"]["securityContext"] == templates["executor"]["spec"]["securityContext"]


def test_the_properties_of_spark_submit_name_files_of_the_repository():
    lines = [line.split() for line in (FOLDER / "submit.conf").read_text().splitlines() if not line.startswith("#")]
    properties = dict(lines)

    assert properties["spark.kubernetes.container.image"] == IMAGE
    assert [name for key, name in lines if key.endswith("podTemplateFile") and not (ROOT / name).is_file()] == []


def _last_run(part: str) -> list[tuple[str, str]]:
    return [(name, words) for name, words in instructions() if name == "RUN" and part in words][-1:]


def test_the_image_has_the_versions_of_python_java_spark_and_delta_that_the_project_asks_for():
    text, project = (FOLDER / "Dockerfile").read_text(), (ROOT / "pyproject.toml").read_text()
    (delta,) = re.findall(r'"delta-spark==([\d.]+)"', project)
    (spark,) = set(re.findall(r'"pyspark==([\d.]+)\.\*"', project))
    bases = [words for name, words in instructions() if name == "FROM"]

    assert {base.split()[0] for base in bases} == {"python:3.11-slim-bookworm"}
    assert "openjdk-17-jre-headless" in text
    assert f"io.delta:delta-spark_{spark}_2.13:{delta}" in text
    assert "hadoop-aws:3.5.0" in text and "hadoop-aws:3.5.0" in (ROOT / "docs" / "operations.md").read_text()
    assert launchers_folder().name == "spark_jobs" and "qarm_features/spark_jobs /opt/jobs" in text
    assert ("USER", "10001") in instructions()


def test_every_image_of_the_example_has_the_version_of_the_package_or_is_a_public_one():
    text = "".join(file.read_text() for file in FOLDER.rglob("*") if file.is_file())

    images = set(re.findall(r"image: (\S+)", text)) | set(re.findall(r"--tag (\S+)", text))

    assert images == {IMAGE, "redis:7-bookworm"}


def test_the_entrypoint_gives_an_executor_what_spark_says_in_its_variables(tmp_path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    java.chmod(0o755)
    names = ("DRIVER_URL", "EXECUTOR_ID", "EXECUTOR_CORES", "APPLICATION_ID", "EXECUTOR_POD_IP", "RESOURCE_PROFILE_ID")
    environment = {f"SPARK_{name}": name.lower() for name in (*names, "EXECUTOR_POD_NAME")}
    environment |= {"SPARK_EXECUTOR_MEMORY": "1g", "SPARK_HOME": "/spark", "JAVA_HOME": str(tmp_path)}
    environment |= {"SPARK_JAVA_OPT_10": "-Dlast=a b", "SPARK_JAVA_OPT_2": "-Dfirst=1", "PATH": "/usr/bin:/bin"}

    done = subprocess.run(
        [FOLDER / "entrypoint.sh", "executor"], env=environment, capture_output=True, text=True, check=True
    )

    said = done.stdout.splitlines()
    assert said[:4] == ["-Dfirst=1", "-Dlast=a b", "-Xms1g", "-Xmx1g"]
    assert said[4:6] == ["-cp", "/opt/spark/conf:/spark/jars/*:"]
    assert said[-14:-10] == ["--driver-url", "driver_url", "--executor-id", "executor_id"]
    assert said[-2:] == ["--podName", "executor_pod_name"]


def test_the_entrypoint_runs_any_other_command_as_it_is():
    done = subprocess.run(
        [FOLDER / "entrypoint.sh", "printf", "%s|", "a b", "c"], capture_output=True, text=True, check=True
    )

    assert done.stdout == "a b|c|"
