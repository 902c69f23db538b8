"""Every job file works by spark-submit on a standalone cluster of two worker processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pyspark
import pytest

from qarm_features.cli.job_lists import JOBS, OTHER_JOBS
from qarm_features.settings.load import load_settings
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, TRAINING_ROWS
from qarm_features.storage.warehouse import Warehouse
from tests.toy_catalog import SETTINGS, write_toy_project

ROOT = Path(__file__).resolve().parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
ENVIRONMENT = {
    **os.environ,
    "SPARK_HOME": str(SPARK_HOME),
    "PYSPARK_PYTHON": sys.executable,
    "SPARK_LOCAL_IP": "127.0.0.1",
}
DELTA = "io.delta:delta-spark_4.2_2.13:4.4.0"

ALIGNED = """\
  variants: [item IDs, +EM3]
encoder: {align: true, dim: 32, num_layers: 1, num_queries: 2}
item_pairs: {als_rank: 4}
alignment: {epochs: 2, batch_size: 64, num_processes: 2}
"""

ORDER = (
    *("ingest_catalog", "mine_item_pairs", "align_encoder", "embed_items", "fit_codebooks", "assign_semantic_ids"),
    *("build_user_behavior", "publish_features", "build_training_set", "find_nearest_items", "write_content_tokens"),
    *("train_ranking_model", "write_report", "evaluate_encoder", "evaluate_codes", "export_semantic_ids"),
    *("export_encoder", "repair", "advise_codes", "code_frozen_items", "build_explorer", "monitor", "follow"),
)

pytestmark = pytest.mark.slow


def daemon(role: str, *arguments: str, log: Path) -> subprocess.Popen:
    command = [
        str(SPARK_HOME / "bin" / "spark-class"),
        f"org.apache.spark.deploy.{role}",
        *arguments,
        "--webui-port",
        "0",
    ]
    with open(log, "w") as output:
        return subprocess.Popen(command, env=ENVIRONMENT, cwd=log.parent, stdout=output, stderr=subprocess.STDOUT)


def wait_for(pattern: str, log: Path, seconds: float = 60) -> re.Match:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text())
        if found:
            return found
        time.sleep(0.2)
    raise TimeoutError(f"{log} never said {pattern}: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Yields the URL of a master with two workers of one core each."""
    folder = tmp_path_factory.mktemp("cluster")
    processes = [daemon("master.Master", "--host", "127.0.0.1", "--port", "0", log=folder / "master.log")]
    try:
        url = wait_for(r"spark://127\.0\.0\.1:\d+", folder / "master.log")[0]
        for number in (1, 2):
            log = folder / f"worker{number}.log"
            processes.append(
                daemon("worker.Worker", "--cores", "1", "--memory", "2g", "--work-dir", str(folder), url, log=log)
            )
            wait_for("Successfully registered with master", log)
        yield url
    finally:
        for process in processes:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.timeout(7200)
def test_every_job_runs_on_two_workers_from_catalog_to_report(cluster, tmp_path):
    folder = write_toy_project(tmp_path)
    settings = SETTINGS.replace("ranking: {epochs: 2, batch_size: 64}", "ranking:\n  epochs: 2\n  batch_size: 64")
    (folder / "qarm.yaml").write_text(settings + ALIGNED)
    options = {"export_semantic_ids": ["--output", str(folder / "exported")], "follow": ["--once"]}
    submit = [
        str(SPARK_HOME / "bin" / "spark-submit"), "--master", cluster, "--packages", DELTA,
        "--conf", "spark.executor.memory=1g", "--conf", "spark.sql.shuffle.partitions=4",
        "--conf", "spark.databricks.delta.snapshotPartitions=2", "--conf", "spark.ui.enabled=false",
    ]  # fmt: skip

    assert sorted(ORDER) == sorted(JOBS + OTHER_JOBS)
    for job in ORDER:
        command = [*submit, str(ROOT / "spark_jobs" / f"{job}.py"), "--config", str(folder / "qarm.yaml")]
        command += options.get(job, [])
        done = subprocess.run(
            command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"{job}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        said = done.stdout + done.stderr  # spark-submit copies the log of Python to its own stdout.
        assert re.search(rf"{job}: \d+ rows in, \d+ out, \d+ rejected", said), job

    project = load_settings(folder / "qarm.yaml")
    warehouse = Warehouse(project.warehouse_path, **project.id_types)
    assert warehouse.arrow(ITEM_SEMANTIC_IDS).count_rows() == 64
    assert warehouse.arrow(TRAINING_ROWS).count_rows() == 800
    assert (folder / "artifacts" / "report" / "report.html").is_file()
    assert Artifacts(folder / "artifacts", "encoders").latest().manifest["ranking_model_version"] == 1
    assert list((folder / "exported").iterdir())


def test_a_wrong_input_ends_in_one_clear_line_and_exit_code_1(tmp_path):
    command = [sys.executable, str(ROOT / "spark_jobs" / "embed_items.py"), "--config", str(tmp_path / "none.yaml")]

    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "embed_items failed: --config is" in done.stderr
    assert "Traceback" not in done.stderr
