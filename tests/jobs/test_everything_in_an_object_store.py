"""Sources, tables and artifacts are on S3, and each command runs on a machine that has nothing but its settings."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import obstore
import pandas as pd
import pytest
import yaml

from qarm_features.feature_store import SemanticIDReader
from qarm_features.settings.load import Settings, load_settings
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.storage.warehouse import Warehouse
from tests.jobs.test_kill_and_run_again import JOBS, contents
from tests.s3_server import store_of
from tests.toy_catalog import SETTINGS, write_toy_project

QARM = str(Path(sys.executable).with_name("qarm"))
SPARK = {
    "spark.jars.packages": "org.apache.hadoop:hadoop-aws:3.5.0",
    "spark.jars.excludes": "org.apache.hadoop:hadoop-client-api,org.apache.hadoop:hadoop-client-runtime",
    "spark.hadoop.fs.s3a.path.style.access": "true",
    "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.memory": "1g",
}
FIRST_COMMIT = f"data/rejected_rows/_delta_log/{0:020}.json"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Machines:
    """Runs each command in an empty folder with settings, as on a new machine.

    The folder ``services`` stands for registry and online store, which are databases elsewhere.
    """

    def __init__(self, folder: Path, bucket: str, variables: dict[str, str]) -> None:
        self.folder, self.variables, self.number = folder, variables, 0
        toy = write_toy_project(folder / "toy")
        self.repo = Path(shutil.copytree(toy / "feature_repo", folder / "services"))
        self.items = pd.read_parquet(toy / "catalog" / "items.parquet")
        self.store = store_of(bucket, variables)
        uri = bucket.replace("s3://", "s3a://")
        self.settings = yaml.safe_load(SETTINGS)
        for source in ("items", "interactions"):
            self.settings[source] |= {"path": f"{uri}/catalog/{source}", "format": "parquet"}
            self.put(f"{source}/base.parquet", (toy / "catalog" / f"{source}.parquet").read_bytes())
        self.settings |= {
            "warehouse": f"{uri}/data",
            "artifacts": f"{bucket}/artifacts",
            "feature_repo": str(self.repo),
        }
        self.settings["spark"] = {"conf": {**SPARK, "spark.hadoop.fs.s3a.endpoint": variables["AWS_ENDPOINT_URL"]}}

    def put(self, name: str, content: bytes) -> None:
        obstore.put(self.store, f"catalog/{name}", content)

    def add_items(self, name: str, numbers: range) -> None:
        file = self.folder / "new.parquet"
        self.items.iloc[: len(numbers)].assign(item_id=list(numbers)).to_parquet(file, index=False)
        self.put(f"items/{name}.parquet", file.read_bytes())

    def start(self, *command: str) -> tuple[subprocess.Popen, Path]:
        """Starts a command on a new machine and returns its process, and the file that gets what it prints."""
        self.number += 1
        machine = self.folder / f"machine-{self.number}"
        machine.mkdir()
        (machine / "qarm.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))
        cache, output = machine / "cache", machine / "printed.txt"
        environment = {**os.environ, **self.variables, "QARM_CACHE_DIR": str(cache), "COLUMNS": "200"}
        with output.open("w") as file:
            process = subprocess.Popen(
                [QARM, *command],
                cwd=machine,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process, output

    def run(self, *command: str) -> str:
        """Runs a command on a new machine and returns what it printed, in lines of any length."""
        process, output = self.start(*command)
        assert process.wait() == 0, output.read_text()[-6000:]
        return output.read_text()

    def kill_in(self, stage: str, *, after_seconds: float) -> None:
        """Starts a run on a new machine and kills it so long after the stage before ``stage`` has ended.

        The first stage is killed so long after it has written its first table.
        """
        before = JOBS.index(stage) - 1
        sign = FIRST_COMMIT if before < 0 else f"artifacts/runs/{JOBS[before]}.json"
        process, output = self.start("run")
        while process.poll() is None and not self.holds(sign):
            time.sleep(0.1)
        time.sleep(after_seconds)
        assert process.poll() is None, f"the run ended before it could be killed in {stage}:\n{output.read_text()}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def holds(self, name: str) -> bool:
        """Says whether the bucket holds an object."""
        with contextlib.suppress(FileNotFoundError):
            return bool(obstore.head(self.store, name))
        return False

    @property
    def project(self) -> Settings:
        """The settings of the project, which a machine has read."""
        return load_settings(self.folder / "machine-1" / "qarm.yaml")

    def rows(self, table) -> int:
        return Warehouse(self.project.warehouse_path, **self.project.id_types).arrow(table).count_rows()


def test_runs_a_follower_a_refit_and_a_rollback_need_no_folder_but_the_settings(bucket, s3_server, tmp_path):
    machines = Machines(tmp_path, bucket, s3_server.variables)
    until = ("--until", "publish-features")

    machines.run("run", *until)
    nothing = machines.run("run", *until)
    machines.add_items("day/more", range(2000, 2003))
    more = machines.run("run", *until)
    after_more = machines.rows(ITEMS)
    machines.add_items("late", range(1000, 1005))
    followed = machines.run("follow", "--once")
    for command in (("fit-codebooks", "--refit"), ("assign-semantic-ids",), ("publish-features",)):
        machines.run(*command)
    refitted = SemanticIDReader(repo_path=machines.repo).item_codes([0, 1004, 2002, 77])
    machines.run("release", "rollback")
    back = SemanticIDReader(repo_path=machines.repo).item_codes([0, 1004, 2002, 77])
    machines.run("release", "verify", "0")

    assert nothing.count("unchanged, skipped") == 6
    assert "3 items of 1 new files were added" in more
    assert after_more == 67
    assert "5 new items, 0 changed, 5 semantic IDs assigned" in followed
    assert (refitted.codebook_version, back.codebook_version) == (1, 0)
    assert refitted.found.tolist() == back.found.tolist() == [True, True, True, False]
    assert (machines.rows(ITEMS), machines.rows(ITEM_SEMANTIC_IDS)) == (72, 144)


def test_drivers_killed_in_every_stage_and_begun_on_new_machines_end_in_the_same_tables_and_artifacts(
    bucket, s3_server, tmp_path
):
    undisturbed = Machines(tmp_path / "whole", bucket, s3_server.variables)
    killed = Machines(tmp_path / "killed", f"s3://{s3_server.new_bucket()}", s3_server.variables)

    undisturbed.run("run")
    for number, stage in enumerate(JOBS):
        killed.kill_in(stage, after_seconds=0.2 if number == 0 else 0.5 + 1.5 * (number % 3))
    killed.run("run")

    expected, found = contents(undisturbed.project), contents(killed.project)
    assert {name: len(rows) for name, rows in found.items()} == {name: len(rows) for name, rows in expected.items()}
    assert found == expected
    assert killed.number == len(JOBS) + 1
