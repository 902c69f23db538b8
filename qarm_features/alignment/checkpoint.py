"""Where a training stands, on disk: weights and optimizer as safetensors, the rest as JSON. Nothing is pickled.

A checkpoint is a folder ``step-<number>`` that appears by one rename; the newest one counts, older ones are removed.
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
    """What a checkpoint holds.

    Attributes:
        state: JSON-like: how far the training came.
        tensors: named tensors by file: ``weights``, ``best``, ``optimizer``.
    """

    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


def save_checkpoint(folder: str | Path, step: int, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, then removes older ones."""
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
    """Reads the newest checkpoint, or returns None when there is none.

    Args:
        folder: where checkpoints are.
        inputs: what the training is made from; must be what the checkpoint's state says.

    Raises:
        ValueError: if the checkpoint is of a training with other inputs.
    """
    folders = _folders(Path(folder))
    if not folders:
        return None
    newest = folders[-1]
    state = json.loads((newest / _STATE).read_text())
    for name, value in inputs.items():
        if state["inputs"].get(name) != value:
            raise ValueError(
                f"{newest} is of a training with {name} = {state['inputs'].get(name)}, must be {value}. "
                "Remove the checkpoints to start anew, or train as before."
            )
    return Checkpoint(state, {file.stem: load_file(file) for file in newest.glob("*.safetensors")})


def optimizer_tensors(optimizer: Optimizer, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Returns the optimizer's tensors as ``<what>/<name of the weight>``."""
    return {
        f"{what}/{name}": value
        for name, weight in weights.items()
        for what, value in optimizer.state.get(weight, {}).items()
    }


def restore_optimizer(optimizer: Optimizer, weights: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Puts back what :func:`optimizer_tensors` returned."""
    for key, value in tensors.items():
        what, name = key.split("/", 1)
        # AdamW keeps its step count on the CPU.
        optimizer.state[weights[name]][what] = value if what == "step" else value.to(weights[name].device)


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
