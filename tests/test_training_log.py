"""The lines that training processes write while people wait."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from qarm_features.training_log import EpochProgress, is_written_for_people, tell_error

logger = logging.getLogger("qarm_features.tests")


def test_a_long_epoch_says_how_far_it_is_and_how_long_it_takes(caplog):
    caplog.set_level(logging.INFO)
    progress = EpochProgress(logger, epoch=1, epochs=5, unit="rows", total=2_000, seconds=0)

    progress.advance(500)
    progress.advance(1_000)

    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("epoch 1 (of at most 5): 500 of 2,000 rows, ")
    assert second.startswith("epoch 1 (of at most 5): 1,500 of 2,000 rows, ")
    assert " rows/s, about " in second
    assert second.endswith(" left in this epoch")


@pytest.mark.parametrize("silent", [{"seconds": 3600}, {"seconds": 0, "active": False}])
def test_a_short_epoch_and_all_processes_but_one_are_silent(caplog, silent):
    caplog.set_level(logging.INFO)
    progress = EpochProgress(logger, epoch=0, epochs=1, unit="rows", total=None, **silent)

    progress.advance(10)

    assert caplog.records == []


def test_the_error_that_ends_a_training_is_one_line_among_all_that_is_printed(capsys):
    def fail():
        raise ValueError("rows are 0,\nmust be 1.")

    with pytest.raises(ValueError, match="rows are 0"):
        tell_error(fail)

    assert capsys.readouterr().err == "[training error] other ValueError: rows are 0, must be 1.\n"


def test_a_message_of_this_package_is_told_from_those_of_libraries():
    assert is_written_for_people("/x/qarm_features/a.py", "    raise ValueError(", "ValueError")
    assert not is_written_for_people("/x/qarm_features/a.py", "    int(text)", "ValueError")
    assert not is_written_for_people("/x/torch/a.py", "    raise ValueError(", "ValueError")
    assert not is_written_for_people("/x/qarm_features/a.py", "    raise lost", "redis.exceptions.ConnectionError")


def test_a_process_of_torchrun_writes_the_log_to_stderr():
    code = """
import logging
from qarm_features.training_log import log_to_stderr
log_to_stderr()
logging.getLogger("qarm_features.x").info("epoch %d", 3)
logging.getLogger("qarm_features.x").warning("collapsed")
"""

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"TORCHELASTIC_RUN_ID": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == "[training] epoch 3\n[training] WARNING: collapsed\n"
