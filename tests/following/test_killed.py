"""A follower that is killed at any point and started again ends as one that was left alone; signals end it in order."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qarm_features.feature_store.publishing.release_manifest import require_manifest
from qarm_features.feature_store.publishing.releases import verify_release
from tests.following.followed import FollowedProject, clicks_of, items_of

QARM = str(Path(sys.executable).with_name("qarm"))
# Each write of a batch, in its order, after which the process is killed.
POINTS = ("items", "item_embeddings", "item_semantic_ids", "online", "interactions", "user_behavior", "rejected_rows")
pytestmark = pytest.mark.slow


def start(folder: Path, *flags: str) -> subprocess.Popen:
    with open(folder / "out.txt", "w") as out:
        return subprocess.Popen([QARM, "follow", *flags], cwd=folder, stdout=out, stderr=out, start_new_session=True)


def state(project: FollowedProject, point: str) -> object:
    """Returns what a write changes: the number of a table's commits, or what is online."""
    if point == "online":
        return require_manifest(project.context.settings, 0).release.delta_version
    return len(list((project.folder / "data" / point / "_delta_log").glob("*.json")))


def wait_for(process: subprocess.Popen, project: FollowedProject, is_reached, seconds: float = 400) -> None:
    """Waits until a condition holds. The follower must not end before."""
    deadline = time.monotonic() + seconds
    while not is_reached():
        assert process.poll() is None, (project.folder / "out.txt").read_text()[-3000:]
        assert time.monotonic() < deadline, (project.folder / "out.txt").read_text()[-3000:]
        time.sleep(0.02)


def add_files(project: FollowedProject) -> None:
    project.set("follow: {max_files: 100, on_changed: reassign}\n")
    project.add("new.parquet", items_of([*range(64, 80), None]))
    project.add("changed.parquet", items_of([5, 6]).assign(vector=items_of([50, 51])["vector"]))
    project.add("clicks.parquet", clicks_of((3, 64, 1, 5), (99, 5, 2, 5), (None, 1, 3, 5)), to="log")


@pytest.mark.timeout(1800)
def test_a_follower_killed_after_each_of_its_writes_ends_as_one_that_was_not(published, tmp_path, spark):
    undisturbed, killed = (
        FollowedProject(shutil.copytree(published, tmp_path / name), spark) for name in ("undisturbed", "killed")
    )
    for one in (undisturbed, killed):
        add_files(one)
    undisturbed.follow()

    for point in POINTS:
        before = state(killed, point)
        process = start(killed.folder, "--once")
        wait_for(process, killed, lambda point=point, before=before: state(killed, point) != before)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    killed.follow()

    assert killed.content() == undisturbed.content()
    verify_release(spark, killed.context.settings, 0)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_batch_that_runs_end_and_the_exit_code_is_zero(followed, number):
    followed.add("new.parquet", items_of([64, 65]))
    process = start(followed.folder, "--trigger-seconds", "0.5")
    before = state(followed, "items")
    wait_for(process, followed, lambda: state(followed, "items") != before)

    os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)

    assert process.wait(timeout=300) == 0, (followed.folder / "out.txt").read_text()[-3000:]
    assert followed.served([64, 65])[1] == [True, True]
