"""Two whole runs start together: one works, the other waits for its turn or is told. The tables are those of one run.

``QARM_TEST_ROUNDS`` sets the number of rounds, ``QARM_TEST_FROM`` the first one, where a series was stopped, and
``QARM_TEST_UNTIL`` the last job of each.
"""

from __future__ import annotations

import os
import random
import subprocess
import time

import pytest

from qarm_features.settings.load import load_settings
from tests.jobs.test_kill_and_run_again import QARM, contents
from tests.toy_catalog import write_toy_project

ROUNDS = range(int(os.environ.get("QARM_TEST_FROM", "0")), int(os.environ.get("QARM_TEST_ROUNDS", "2")))
SECONDS_OF_A_ROUND = 600
COMMAND = [QARM, "run", *(["--until", os.environ["QARM_TEST_UNTIL"]] if "QARM_TEST_UNTIL" in os.environ else [])]

pytestmark = pytest.mark.slow


def start(folder) -> subprocess.Popen:
    return subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.timeout(SECONDS_OF_A_ROUND * (1 + len(ROUNDS)))
def test_two_runs_that_start_together_leave_the_tables_of_one(tmp_path):
    alone = write_toy_project(tmp_path / "alone")
    started = time.monotonic()
    assert start(alone).wait() == 0
    seconds, expected = time.monotonic() - started, contents(load_settings(alone / "qarm.yaml"))

    for number in ROUNDS:
        offsets = random.Random(number)
        folder = write_toy_project(tmp_path / f"round{number}")
        first = start(folder)
        offset = offsets.choice([0.0, 1.0, seconds]) * offsets.random()
        time.sleep(offset)
        both = [first, start(folder)]
        said = [process.communicate()[1] for process in both]

        codes = sorted(process.returncode for process in both)
        refused = [text for process, text in zip(both, said) if process.returncode]
        print(f"round {number}: the second started {offset:.1f} s after the first; exit codes {codes}")
        assert codes in ([0, 0], [0, 1]), said
        assert all(text.startswith("error: qarm run runs in this project since ") for text in refused), refused
        assert contents(load_settings(folder / "qarm.yaml")) == expected
