"""Save and load checkpoints of a training run: weights and optimizer as safetensors, all else as JSON, nothing pickled.

In: the state of a training run. Out: a folder ``step-<number>``, which appears by one rename. Only the newest checkpoint is
kept.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

_STATE = "state.json"


class Checkpoint(NamedTuple):
    """Hold the content of a checkpoint.

    Attributes:
        state: Progress of the training run, as JSON.
        tensors: Tensors by name, for each of the files ``weights``, ``best`` and ``optimizer``.
    """

    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


def save_checkpoint(folder: str | Path, step: int, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then remove older ones.

    Args:
        folder: Folder of the checkpoints.
        step: Number of training steps done, at least 0.
        checkpoint: Content of the checkpoint.
    """
    folder = Path(folder)
    draft = folder / f".draft-{uuid.uuid4().hex}"
    draft.mkdir(parents=True)
    try:
        for name, tensors in checkpoint.tensors.items():
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                      draft / f"{name}.safetensors")  # fmt: skip
        (draft / _STATE).write_text(json.dumps(checkpoint.state))
        for file in draft.iterdir():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
        target = folder / f"step-{step}"
        shutil.rmtree(target, ignore_errors=True)
        os.rename(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for path in _folders(folder):
        if path != target:
            shutil.rmtree(path)


def load_checkpoint(folder: str | Path, *, inputs: Mapping[str, Any]) -> Checkpoint | None:
    """Read the newest checkpoint.

    Args:
        folder: Folder of the checkpoints.
        inputs: Options and fingerprints of the training run, which must equal those of the checkpoint.

    Returns:
        The checkpoint; None if the folder has none.

    Raises:
        ValueError: The checkpoint was written by a training run with other inputs.
    """
    folders = _folders(Path(folder))
    if not folders:
        return None
    newest = folders[-1]
    state = json.loads((newest / _STATE).read_text())
    for name, value in inputs.items():
        if state["inputs"].get(name) != value:
            raise ValueError(
                f"The checkpoint {newest} was written with {name} = {state['inputs'].get(name)}, but this training run "
                f"has {name} = {value}. Remove the checkpoints to start again, or restore the earlier value."
            )
    return Checkpoint(state, {file.stem: load_file(file) for file in newest.glob("*.safetensors")})


def optimizer_tensors(optimizer: Optimizer, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the state of an optimizer as tensors.

    Args:
        optimizer: Optimizer of the weights.
        weights: Weights by name.

    Returns:
        Tensors by the names ``<state>/<name of the weight>``, for example ``exp_avg/head.bias``.
    """
    return {
        f"{state}/{name}": value
        for name, weight in weights.items()
        for state, value in optimizer.state.get(weight, {}).items()
    }


def restore_optimizer(optimizer: Optimizer, weights: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Restore the state of an optimizer.

    Args:
        optimizer: Optimizer of the weights; it is changed in place.
        weights: Weights by name.
        tensors: Tensors that ``optimizer_tensors`` returned.
    """
    for key, value in tensors.items():
        state, name = key.split("/", 1)
        # AdamW keeps its step count on the CPU.
        optimizer.state[weights[name]][state] = value if state == "step" else value.to(weights[name].device)


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
