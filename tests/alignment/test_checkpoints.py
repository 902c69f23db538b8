"""A killed training run continues from its checkpoint and ends as if it had not been killed."""

import functools
from dataclasses import replace

import pytest

from qarm_features.alignment import AlignmentOptions, align
from qarm_features.alignment.run import AlignmentRun
from tests.alignment.planted_pairs import planted_encoder, same, weights_of, write_planted_source

OPTIONS = AlignmentOptions(
    geometry_weight=0.5,
    code_weight=0.5,
    num_anchors=50,
    batch_size=64,
    micro_batch_size=32,
    epochs=3,
    learning_rate=1e-2,
    num_threads=1,
    checkpoint_steps=3,
)


class KilledError(Exception):
    """Represent the kill."""


@pytest.mark.parametrize("steps", [2, 4, 11, 16])
def test_a_killed_training_goes_on_and_ends_as_if_it_had_not_been(planted_source, tmp_path, monkeypatch, steps):
    """An epoch has 8 steps, with a checkpoint after every 3; kills come before the first one, within and after an epoch."""
    build = functools.partial(planted_encoder, dropout=0.2)
    expected = align(build, planted_source, tmp_path / "whole", options=OPTIONS)
    step, done = AlignmentRun._step, []

    def killed(run, batch):
        if len(done) == steps:
            raise KilledError
        done.append(1)
        return step(run, batch)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(AlignmentRun, "_step", killed)
        align(build, planted_source, tmp_path / "resumed", options=OPTIONS, checkpoint_dir=tmp_path / "checkpoints")

    def counted(run, batch):
        done.append(1)
        return step(run, batch)

    monkeypatch.setattr(AlignmentRun, "_step", counted)
    metrics = align(
        build, planted_source, tmp_path / "resumed", options=OPTIONS, checkpoint_dir=tmp_path / "checkpoints"
    )

    assert same(weights_of(tmp_path / "resumed"), weights_of(tmp_path / "whole"))
    losses = [[entry["train_loss"] for entry in result["epochs"]] for result in (metrics, expected)]
    assert losses[0] == pytest.approx(losses[1])
    assert len(done) - 24 <= 2  # steps made twice


def test_a_training_that_ended_is_not_repeated(planted_source, tmp_path, monkeypatch):
    arguments = {"options": replace(OPTIONS, epochs=1), "checkpoint_dir": tmp_path / "checkpoints"}
    align(planted_encoder, planted_source, tmp_path / "first", **arguments)
    monkeypatch.delattr(AlignmentRun, "_step")

    align(planted_encoder, planted_source, tmp_path / "second", **arguments)

    assert same(weights_of(tmp_path / "first"), weights_of(tmp_path / "second"))


def test_checkpoints_hold_nothing_pickled_and_one_is_kept(planted_source, tmp_path):
    align(planted_encoder, planted_source, tmp_path / "out", options=replace(OPTIONS, epochs=2),
          checkpoint_dir=tmp_path / "checkpoints")  # fmt: skip

    (only,) = (tmp_path / "checkpoints").iterdir()

    assert only.name == "step-16"
    assert sorted(path.name for path in only.iterdir()) == [
        "best.safetensors", "codes.safetensors", "optimizer.safetensors", "state.json", "weights.safetensors",
    ]  # fmt: skip


def test_a_checkpoint_of_another_training_is_refused(planted_source, tmp_path):
    arguments = {"checkpoint_dir": tmp_path / "checkpoints"}
    align(planted_encoder, planted_source, tmp_path, options=replace(OPTIONS, epochs=1), **arguments)

    with pytest.raises(
        ValueError,
        match=r"step-8 was written with learning_rate = 0\.01, but this training run has learning_rate = 0\.5",
    ):
        options = replace(OPTIONS, epochs=1, learning_rate=0.5)
        align(planted_encoder, planted_source, tmp_path, options=options, **arguments)


def test_a_checkpoint_of_other_pairs_is_refused(planted_source, tmp_path):
    arguments = {"checkpoint_dir": tmp_path / "checkpoints", "options": replace(OPTIONS, epochs=1)}
    align(planted_encoder, planted_source, tmp_path, **arguments)

    with pytest.raises(
        ValueError, match="was written with pairs = [0-9a-f]+, but this training run has pairs = [0-9a-f]+"
    ):
        align(planted_encoder, write_planted_source(tmp_path / "other", num_pairs=590), tmp_path, **arguments)
