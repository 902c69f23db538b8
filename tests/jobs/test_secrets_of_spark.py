"""Spark gets the secrets of the settings, but neither its command nor its logs show them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qarm_features.jobs.spark_session import launch_arguments
from tests.secret_texts import MARK, places_of

SECRET = f"{MARK}it's a #secret"
_USES_SPARK = """
import pathlib, subprocess, sys
from qarm_features.jobs.spark_session import start_session
from qarm_features.settings.load import load_settings

folder = pathlib.Path(sys.argv[1])
spark = start_session(load_settings(folder / "qarm.yaml").spark, name="x", log_file=folder / "logs" / "spark.log")
hadoop = spark.sparkContext._jsc.hadoopConfiguration()
print(hadoop.get("fs.s3a.secret.key"))
print(hadoop.get("fs.s3a.aws.credentials.provider"))
print(spark.sparkContext.parallelize([0], 1).map(lambda _: __import__("os").environ["SHOP_TOKEN"]).first())
print(spark._jvm.java.lang.Runtime.getRuntime().maxMemory() >> 20)
listed = subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, text=True).stdout
(folder / "processes.txt").write_text("\\n".join(line for line in listed.splitlines() if "SparkSubmit" in line))
spark.stop()
"""


def test_secrets_reach_spark_but_no_command_line_and_no_log(tmp_path, monkeypatch):
    monkeypatch.setenv("S3_SECRET", SECRET)
    (tmp_path / "events").mkdir()
    (tmp_path / "qarm.yaml").write_text(
        f"""\
items: {{path: items.parquet}}
interactions: {{path: clicks.csv}}
spark:
  master: local[1]
  conf:
    spark.hadoop.fs.s3a.secret.key: ${{S3_SECRET}}
    spark.hadoop.fs.s3a.aws.credentials.provider: a.Provider
    spark.executorEnv.SHOP_TOKEN: ${{S3_SECRET}}
    spark.driver.memory: 600m
    spark.eventLog.enabled: "true"
    spark.eventLog.compress: "false"
    spark.eventLog.dir: {tmp_path / "events"}
"""
    )

    done = subprocess.run(
        [sys.executable, "-c", _USES_SPARK, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [SECRET, "a.Provider", SECRET, "600"]
    assert "spark.driver.memory=600m" in (tmp_path / "processes.txt").read_text()  # it was there when we looked
    assert any((tmp_path / "events").rglob("events_*"))
    assert places_of(MARK, tmp_path) == []
    assert MARK not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spark.driver.extraJavaOptions", f"-Djavax.net.ssl.keyStorePassword={MARK}"),
        ("spark.jars.repositories", f"https://me:{MARK}@jars.internal/maven"),
        ("spark.yarn.secret", MARK),
    ],
)
def test_a_secret_that_would_stand_in_the_command_is_refused(name, value):
    with pytest.raises(
        ValueError, match=f"{name} in spark.conf holds a secret, which everybody on the machine"
    ) as caught:
        launch_arguments({name: value})

    assert MARK not in str(caught.value)


def test_the_command_names_only_what_the_launch_needs():
    needed = {"spark.master": "local", "spark.jars.packages": "a:b:1", "spark.driver.memory": "2g"}
    hadoop = {"spark.hadoop.fs.s3a.endpoint": "x", "spark.hadoop.fs.s3a.secret.key": MARK}
    later = {"spark.sql.shuffle.partitions": "2", "spark.ui.enabled": "false"}

    assert launch_arguments({**needed, **hadoop, **later}) == needed
    remote = {**needed, "spark.jars": "s3a://bucket/x.jar"}
    assert launch_arguments({**remote, **hadoop}) == {**remote, "spark.hadoop.fs.s3a.endpoint": "x"}
