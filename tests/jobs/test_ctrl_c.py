"""Ctrl-C ends a run in one line and leaves no process behind; a waiting person sees lines, also without a terminal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.toy_catalog import SETTINGS

QARM = str(Path(sys.executable).with_name("qarm"))
LONG = "ranking: {{epochs: 3000, patience: 3000, batch_size: 64, num_processes: {processes}}}"


def processes_of(session: int) -> list[str]:
    """Returns the command lines of all living processes that a session leader has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, *_, of_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(of_session) == session and state != "Z":
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
        except OSError:  # It ended in the meantime.
            continue
    return found


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.parametrize(("processes", "send"), [(1, os.killpg), (2, os.kill)], ids=["group", "one process of two"])
def test_a_run_without_a_terminal_shows_epochs_and_ctrl_c_leaves_no_process(project, tmp_path, processes, send):
    folder = tmp_path / "copy"
    shutil.copytree(project.settings.feature_repo_path.parent, folder)
    text = SETTINGS.replace("ranking: {epochs: 2, batch_size: 64}", LONG.format(processes=processes))
    (folder / "qarm.yaml").write_text(text)
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        run = subprocess.Popen([QARM, "run"], cwd=folder, stdout=out, stderr=err, start_new_session=True)
    try:
        while run.poll() is None and "epoch 1: train log loss" not in (folder / "out").read_text():
            time.sleep(0.2)
        assert run.poll() is None, (folder / "out").read_text() + (folder / "err").read_text()
        before = processes_of(run.pid)
        send(run.pid, signal.SIGINT)
        code = run.wait(timeout=120)
        deadline = time.monotonic() + 60
        while processes_of(run.pid) and time.monotonic() < deadline:
            time.sleep(0.2)
        left = processes_of(run.pid)
    finally:
        if processes_of(run.pid):
            os.killpg(run.pid, signal.SIGKILL)

    assert any("java" in command for command in before)
    assert any("train.py" in command for command in before)
    assert code == 130
    assert left == []
    said = (folder / "err").read_text().strip().splitlines()
    assert said[-1].startswith("Interrupted. Run the same command again; it continues where it stopped")
    assert len(said) == 1
