"""A night of QARM features for Airflow 3: from the catalog to the served release, then a refit where one pays.

Airflow and QARM features live in two environments, because their dependencies differ. This file imports Airflow alone, and
the tasks start the command ``qarm`` of the other environment. Variables of the workers:

    QARM_PROJECT    folder of qarm.yaml, by default /srv/shop
    QARM_COMMAND    path of qarm, by default qarm

Tasks hand nothing on but their order: what a stage makes lies in tables and artifacts. A task that is tried again therefore
goes on where the last try stopped, and repeats nothing that is done.
"""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timedelta
from itertools import pairwise

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task

PROJECT = os.environ.get("QARM_PROJECT", "/srv/shop")
COMMAND = os.environ.get("QARM_COMMAND", "qarm")

# One task per group of stages. `qarm run` skips what is current, so that each takes up what the one before it has made.
GROUPS = {
    "ingest": "qarm run --until ingest-catalog",
    "embed": "qarm run --until embed-items",
    "code": "qarm run --until assign-semantic-ids",
    "publish": "qarm run --until publish-features",
}
REFIT = "qarm fit-codebooks --refit && qarm run --until publish-features"


def stage(name: str, command: str) -> BashOperator:
    """Returns a task that runs commands of qarm in the folder of the project."""
    # The program stands in a variable, which may hold spaces.
    line = command.replace("qarm ", '"$QARM_COMMAND" ')
    return BashOperator(
        task_id=name,
        bash_command=f"set -e; {line}",
        cwd=PROJECT,
        env={"QARM_COMMAND": COMMAND},
        append_env=True,
        do_xcom_push=False,
    )


with DAG(
    dag_id="qarm",
    description="Semantic IDs: ingest, embed, code, publish; refit where it pays",
    schedule="0 3 * * *",
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": True,
        "execution_timeout": timedelta(hours=12),
    },
    tags=["qarm"],
) as dag:

    @task.branch(do_xcom_push=False)
    def monitor() -> str:
        """Returns the task that follows: refit past a limit of the section monitor, else keep_codes."""
        # Exit code 1 means a limit that is passed, and an error too. --no-fail tells them apart: it ends with 0 past a limit.
        if subprocess.run([COMMAND, "monitor"], cwd=PROJECT, check=False).returncode == 0:
            return "keep_codes"
        subprocess.run([COMMAND, "monitor", "--no-fail"], cwd=PROJECT, check=True)
        return "refit"

    tasks = [stage(name, command) for name, command in GROUPS.items()]
    for before, after in pairwise(tasks):
        before >> after
    tasks[-1] >> monitor() >> [stage("refit", REFIT), EmptyOperator(task_id="keep_codes")]
