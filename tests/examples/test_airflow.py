"""The DAG for Airflow names commands that exist, and does its work when Airflow runs it."""

from __future__ import annotations

import ast
import os
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from qarm_features.cli.job_lists import jobs_until
from qarm_features.storage.artifacts import Artifacts
from tests.docs.test_commands import parse
from tests.server_programs import skip_without
from tests.toy_catalog import write_toy_project

ROOT = Path(__file__).resolve().parents[2]
DAG = ROOT / "examples" / "airflow" / "qarm_dag.py"


def constants() -> dict:
    """Returns the constants of the file, which this environment cannot import."""
    assigned = [one for one in ast.parse(DAG.read_text()).body if isinstance(one, ast.Assign)]
    literal = [one for one in assigned if isinstance(one.value, (ast.Constant, ast.Dict))]
    return {one.targets[0].id: ast.literal_eval(one.value) for one in literal}


def commands_of(line: str) -> list[list[str]]:
    return [shlex.split(part)[1:] for part in line.split(" && ")]


def test_every_command_of_the_dag_exists_and_its_groups_follow_the_order_of_a_run():
    groups, refit = constants()["GROUPS"], constants()["REFIT"]

    for line in (*groups.values(), refit, "qarm monitor", "qarm monitor --no-fail"):
        for words in commands_of(line):
            parse(words)
    ends = [len(jobs_until(line.split()[-1])) for line in groups.values()]
    assert ends == sorted(ends)
    assert jobs_until("publish-features")[-1] == jobs_until(groups["publish"].split()[-1])[-1]


def run_dag(folder: Path, home: Path, **variables: str) -> dict[str, str]:
    """Lets Airflow run the DAG once, and returns the state of each task."""
    airflow = os.environ.get("QARM_TEST_AIRFLOW") or skip_without("Airflow")
    database = home / "airflow.db"
    database.unlink(missing_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYSPARK_PYTHON")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAG.parent),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}",
        "QARM_PROJECT": str(folder),
        "QARM_COMMAND": str(Path(sys.executable).with_name("qarm")),
        **variables,
    }
    for words in (["db", "migrate"], ["dags", "test", "qarm", "2024-01-01"]):
        done = subprocess.run([airflow, *words], env=environment, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    with sqlite3.connect(database) as connection:
        states = dict(connection.execute("SELECT task_id, state FROM task_instance").fetchall())
        handed_on = {key for (key,) in connection.execute("SELECT key FROM xcom").fetchall()}
    assert handed_on <= {"skipmixin_key"}  # which branch was taken; no data
    return states


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_airflow_publishes_and_refits_only_past_a_limit_of_the_monitor(tmp_path):
    folder, home = write_toy_project(tmp_path / "shop"), tmp_path / "airflow"
    home.mkdir()
    log = folder / "catalog" / "interactions.parquet"
    rows = pd.read_parquet(log)
    unknown = rows.tail(20).assign(item_id=1000)  # 2.4% of the rows name an item that the catalog lacks
    pd.concat([rows, unknown]).to_parquet(log, index=False)
    done = {"ingest": "success", "embed": "success", "code": "success", "publish": "success", "monitor": "success"}

    below = run_dag(folder, home)
    past = run_dag(folder, home, QARM_MONITOR__MAX_UNSEEN="0")

    assert below == {**done, "refit": "skipped", "keep_codes": "success"}
    assert past == {**done, "refit": "success", "keep_codes": "skipped"}
    assert Artifacts(folder / "artifacts", "codebooks").versions() == [0, 1]
