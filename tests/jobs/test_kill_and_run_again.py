"""A run that is killed in any stage and started again ends in the same tables as a run that was not killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qarm_features.settings.load import Settings, load_settings
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.tables import TABLES
from qarm_features.storage.warehouse import Warehouse
from tests.toy_catalog import all_jobs, write_toy_project

JOBS = [job.name for job in all_jobs()]
QARM = str(Path(sys.executable).with_name("qarm"))

pytestmark = pytest.mark.slow


def contents(settings: Settings) -> dict[str, list]:
    """Returns every table's rows, sorted, the versions of the artifacts, and the hashes of what needs no training."""
    warehouse = Warehouse(settings.warehouse_path, **settings.id_types)
    tables = [table for table in TABLES if warehouse.exists(table)]
    found = {t.name: sorted(map(str, warehouse.arrow(t).to_table().to_pylist())) for t in tables}
    of_kind = {kind: Artifacts(settings.artifacts_path, kind) for kind in ("encoders", "codebooks", "ranking_models")}
    hashes = {k: [of_kind[k].get(n).content_hash for n in of_kind[k].versions()] for k in ("encoders", "codebooks")}
    return (
        found | {kind: of.versions() for kind, of in of_kind.items()} | {f"files of {k}": h for k, h in hashes.items()}
    )


def run_to_the_end(folder: Path) -> None:
    done = subprocess.run([QARM, "run"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def kill_in(folder: Path, stage: str, after_seconds: float) -> None:
    """Starts a run and kills all of its processes ``after_seconds`` after the stage before ``stage`` has ended."""
    before = JOBS.index(stage) - 1
    record = load_settings(folder / "qarm.yaml").artifacts_path / "runs" / f"{JOBS[before]}.json"
    process = subprocess.Popen(
        [QARM, "run"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and before >= 0 and not record.is_file():
        time.sleep(0.05)
    time.sleep(after_seconds + (12 if before < 0 else 0))  # Before the first stage, Spark has to start.
    assert process.poll() is None, f"the run ended before it could be killed in {stage}"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = write_toy_project(tmp_path_factory.mktemp("undisturbed"))
    run_to_the_end(folder)
    return contents(load_settings(folder / "qarm.yaml"))


@pytest.mark.timeout(1800)
def test_a_run_killed_once_in_every_stage_ends_in_the_same_tables(undisturbed, tmp_path):
    folder = write_toy_project(tmp_path)

    for number, stage in enumerate(JOBS):
        kill_in(folder, stage, after_seconds=0.3 + 0.7 * (number % 3))
    run_to_the_end(folder)

    found = contents(load_settings(folder / "qarm.yaml"))
    assert {name: len(rows) for name, rows in found.items()} == {name: len(rows) for name, rows in undisturbed.items()}
    assert found == undisturbed


@pytest.mark.timeout(1800)
def test_drivers_that_are_killed_and_lose_their_machines_end_in_the_same_tables_and_versions(
    undisturbed, bucket, tmp_path, monkeypatch
):
    shared = write_toy_project(tmp_path / "shared")
    yaml = (
        f"warehouse: {shared / 'data'}\nfeature_repo: {shared / 'feature_repo'}\nartifacts: {bucket}/shop\n"
        + (shared / "qarm.yaml").read_text()
    )

    def new_machine(number: int) -> Path:
        folder = tmp_path / f"machine-{number}"
        shutil.copytree(shared / "catalog", folder / "catalog")
        (folder / "qarm.yaml").write_text(yaml)
        monkeypatch.setenv("QARM_CACHE_DIR", str(folder / "cache"))
        return folder

    for number, stage in enumerate(("embed_items", "assign_semantic_ids", "publish_features", "train_ranking_model")):
        kill_in(new_machine(number), stage, after_seconds=1.0)
    last = new_machine(9)
    run_to_the_end(last)

    found = contents(load_settings(last / "qarm.yaml"))
    assert {name: len(rows) for name, rows in found.items()} == {name: len(rows) for name, rows in undisturbed.items()}
    assert found == undisturbed
