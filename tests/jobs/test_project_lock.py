"""A second run in a project is told who holds it. A holder that is killed holds nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from qarm_features.jobs.project_lock import ProjectBusy, held_for_job, held_for_run

HOLD = """
import sys, time
from qarm_features.jobs.project_lock import held_for_run, held_for_job
from qarm_features.settings.load import load_settings
settings, what = load_settings(sys.argv[1]), sys.argv[2]
with held_for_run(settings) if what == "run" else held_for_job(settings, what):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold(settings):
    """Starts a process that holds the project for a run or for a job."""
    started = []

    def start(what: str) -> subprocess.Popen:
        config = str(settings.feature_repo_path.parent / "qarm.yaml")
        process = subprocess.Popen([sys.executable, "-c", HOLD, config, what], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_run_and_a_job_are_told_who_runs(settings, hold):
    holder = hold("run")
    told = rf"qarm run runs in this project since .* UTC as process {holder.pid} on {socket.gethostname()}\. Wait"

    with pytest.raises(ProjectBusy, match=told), held_for_run(settings):
        pass
    with pytest.raises(ProjectBusy, match=told), held_for_job(settings, "embed_items"):
        pass


def test_a_job_excludes_itself_and_a_run_but_no_other_job(settings, hold):
    holder = hold("embed_items")
    told = rf"qarm embed-items runs in this project since .* as process {holder.pid}"

    with pytest.raises(ProjectBusy, match=told), held_for_run(settings):
        pass
    with pytest.raises(ProjectBusy, match=told), held_for_job(settings, "embed_items"):
        pass
    with held_for_job(settings, "fit_codebooks"):
        pass


def test_a_killed_holder_blocks_nobody(settings, hold):
    holder = hold("run")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()

    with held_for_run(settings):
        pass
    with held_for_run(settings):
        pass


def test_the_second_command_ends_in_one_line(settings, hold):
    hold("run")
    command = [sys.executable, "-m", "qarm_features.cli.main"]
    folder = settings.feature_repo_path.parent

    for arguments in (["run"], ["fit-codebooks"]):
        done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)

        assert done.returncode == 1
        assert done.stderr.startswith("error: qarm run runs in this project since ")
        assert len(done.stderr.strip().splitlines()) == 1
