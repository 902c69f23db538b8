"""What killed runs left is listed and removed while nobody runs. Versions and records are never touched."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from qarm_features.cli import main as cli
from qarm_features.jobs.leftovers import leftovers, remove_leftovers
from qarm_features.jobs.project_lock import ProjectBusy, held_for_run
from qarm_features.settings.load import load_settings
from qarm_features.storage.artifacts import Artifacts, write_json

KILLED = """
import os, sys
from qarm_features.storage.artifacts import Artifacts
def write(folder):
    (folder / "weights.bin").write_bytes(b"x" * 1000)
    os.kill(os.getpid(), 9)
Artifacts(sys.argv[1], "encoders").publish(write)
"""


@pytest.fixture
def littered(settings):
    """A project with two versions and a release, a draft of a killed process, a work folder and a draft of a record."""
    root = settings.artifacts_path
    for kind in ("encoders", "codebooks"):
        Artifacts(root, kind).publish(lambda folder: (folder / "kept.bin").write_bytes(b"y"), made_from=1)
    write_json(root / "releases" / "cb0.json", {"codebook_version": 0})
    assert subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False).returncode == -9
    checkpoint = root / "work" / "align-1-2" / "step-10"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"z" * 500)
    for name, age in (("a" * 32, 7_200), ("b" * 32, 0)):
        path = root / "releases" / f".promoted.json-{name}"
        path.write_text("{")
        os.utime(path, (time.time() - age,) * 2)
    return settings


def everything(settings) -> set[str]:
    root = settings.artifacts_path
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("locks/") and "/.numbers/" not in name}


def test_drafts_and_work_of_killed_runs_are_removed_and_nothing_else(littered):
    before = everything(littered)

    removed = remove_leftovers(littered)

    assert sorted(one.bytes for one in removed) == [1, 500, 1000]
    gone = before - everything(littered)
    assert {name.split("/")[0] for name in gone} == {"encoders", "releases", "work"}
    assert everything(littered) == {
        "encoders/v0/kept.bin",
        "encoders/v0/manifest.json",
        "codebooks/v0/kept.bin",
        "codebooks/v0/manifest.json",
        "releases/cb0.json",
        f"releases/.promoted.json-{'b' * 32}",  # a command may be writing it at this moment
    }
    assert (littered.artifacts_path / "encoders" / ".numbers").is_dir()  # so that no number is given twice
    assert Artifacts(littered.artifacts_path, "encoders").get(0).verify().version == 0
    assert remove_leftovers(littered) == []


def test_while_a_run_is_at_work_nothing_is_removed(littered):
    before = everything(littered)

    with held_for_run(littered), pytest.raises(ProjectBusy, match="runs in this project since"):
        remove_leftovers(littered)

    assert everything(littered) == before


def test_the_doctor_lists_and_removes_with_the_number_of_bytes(littered):
    config = str(littered.feature_repo_path.parent / "qarm.yaml")

    def doctor(*flags):
        done = CliRunner().invoke(cli.app, ["doctor", "--config", config, *flags])
        assert done.exit_code == 0, done.output
        return done.output.splitlines()

    listed = doctor("--clean", "--dry-run")
    assert len(leftovers(littered)) == 3
    removed = doctor("--clean")

    assert [line.replace("would be removed", "removed") for line in listed] == removed
    assert removed[-1] == "3 folders or files, 1.5 kB removed"
    assert any(line.endswith("work/align-1-2 (500 bytes)") for line in removed)
    assert doctor("--clean") == ["Killed runs left nothing."]


def test_a_link_is_removed_and_what_it_names_stays(settings, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("kept")
    work = settings.artifacts_path / "work"
    work.mkdir(parents=True)
    (work / "align-1").symlink_to(tmp_path / "elsewhere")

    remove_leftovers(settings)

    assert list(work.iterdir()) == []
    assert (tmp_path / "elsewhere" / "mine").read_text() == "kept"


def test_in_an_object_store_files_without_a_manifest_are_named_and_removed_when_nobody_can_be_writing(
    bucket, tmp_path, monkeypatch
):
    (tmp_path / "qarm.yaml").write_text(
        f"artifacts: {bucket}/shop\nitems: {{path: a.parquet}}\ninteractions: {{path: b.parquet}}\n"
    )
    settings = load_settings(tmp_path / "qarm.yaml")
    root = settings.artifacts_path
    kept = Artifacts(root, "encoders").publish(lambda folder: (folder / "kept.bin").write_bytes(b"y"))
    (root / "encoders" / ".numbers" / "1").write_text("")
    for name in ("encoders/v1/weights.bin", "encoders/v1/parts/more.bin", "banks/.draft-ab/bank/shard-00000.arrow"):
        (root / name).write_bytes(b"x" * 100)
    (kept.path.parent / ".draft-cd").mkdir()

    young = remove_leftovers(settings)
    monkeypatch.setattr("qarm_features.jobs.leftovers._REMOTE_SECONDS", -1.0)
    listed = [(str(one.path).removeprefix(f"{root}/"), one.bytes) for one in leftovers(settings)]
    removed = remove_leftovers(settings)

    assert [str(one.path) for one in young] == [str(kept.path.parent / ".draft-cd")]
    assert listed == [("banks/.draft-ab", 100), ("encoders/v1", 200)]
    assert len(removed) == 2
    assert sorted(one.name for one in root.objects()) == [
        "encoders/.numbers/0", "encoders/.numbers/1", "encoders/v0/kept.bin", "encoders/v0/manifest.json",
    ]  # fmt: skip
