"""What a training process logs reaches the log of the job while it runs; all that it prints is in a file."""

from __future__ import annotations

import logging

import pytest

from qarm_features.jobs.training_processes import TrainingProcesses


def says(epochs):
    logger = logging.getLogger("qarm_features.alignment")
    print("a library prints this")
    for epoch in range(epochs):
        logger.info("epoch %d", epoch)
    logger.warning("The encoder has collapsed.")
    return epochs


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_lines_of_training_are_logged_and_the_rest_is_kept(fresh_project, caplog, num_processes):
    with caplog.at_level(logging.INFO, logger="qarm"):
        answer = TrainingProcesses(fresh_project, num_processes).run(says, 2)

    ours = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "qarm"]
    assert answer == 2
    assert sorted(set(ours)) == [
        ("INFO", "epoch 0"),
        ("INFO", "epoch 1"),
        ("WARNING", "WARNING: The encoder has collapsed."),
    ]
    printed = (fresh_project.settings.artifacts_path / "logs" / "training.log").read_text()
    assert "a library prints this" in printed
