"""The start of a ranking model's fusion: the Fusion-Q-Former that alignment trained, in place of random weights.

In: a model, and the folder of an encoder version. Out: the model with these weights, and where they came from. The ranking
room does not import encoders: it reads the two files that they are saved as.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from qarm_features.fusion.q_former import FusionQFormer
from qarm_features.ranking.model.ranking_model import RankingModel
from qarm_features.storage.artifacts import open_version
from qarm_features.storage.copies import local_folder

_CONFIG, _WEIGHTS, _PREFIX = "config.json", "model.safetensors", "q_former."


def start_fusion_from(model: RankingModel, folder: str | Path) -> dict[str, Any]:
    """Gives the fusion of a model the weights of the Fusion-Q-Former of an encoder, in place.

    The content tokens of the model must come from the backbones of this encoder.

    Args:
        model: Model with use_fusion, before its training.
        folder: Folder or URI of an encoder version: ``artifacts/encoders/v<n>``, or of
            ``ItemEncoder.save_pretrained``.

    Returns:
        ``encoder_version`` and ``encoder_fingerprint`` of the version; None in a folder without a manifest.

    Raises:
        ValueError: If the model has no fusion, the encoder has no Fusion-Q-Former, or their sizes differ.
        ArtifactError: If a file of the version differs from its manifest.
    """
    fusion, folder = model.items.fusion, local_folder(folder)
    if fusion is None:
        raise ValueError("The model has no fusion that could start from an encoder. Set use_fusion=True.")
    if not (folder / _CONFIG).is_file() or not (folder / _WEIGHTS).is_file():
        raise ValueError(f"{folder} holds no encoder. Name the folder of an encoder version.")
    version = open_version(folder)
    if version is not None:
        version.verify()
    weights = {
        name.removeprefix(_PREFIX): weight
        for name, weight in load_file(folder / _WEIGHTS).items()
        if name.startswith(_PREFIX)
    }
    if not weights:
        raise ValueError(f"The encoder in {folder} has no Fusion-Q-Former. Align one first. Run: qarm align-encoder")
    arguments = json.loads((folder / _CONFIG).read_text())["q_former"] or {}
    _check_sizes(fusion.q_former, weights, arguments, folder)
    fusion.q_former.load_state_dict(weights)
    return {
        "encoder_version": None if version is None else version.version,
        "encoder_fingerprint": None if version is None else version.fingerprint,
    }


def _check_sizes(ours: FusionQFormer, weights: dict[str, Any], arguments: dict[str, Any], folder: Path) -> None:
    heads = {**(FusionQFormer.__init__.__kwdefaults__ or {}), **arguments}
    found = {
        "content_dim": (weights["queries"].shape[1], ours.dim),
        "num_queries": (weights["queries"].shape[0], ours.num_queries),
        "fusion_layers": (
            len({name.split(".")[1] for name in weights if name.startswith("layers.")}),
            len(ours.layers),
        ),
        "num_heads": (heads["num_heads"], ours.num_heads),
        "flatten_queries": (heads["flatten_queries"], ours.flatten_queries),
        "token_dims": (
            {name.split(".")[1]: weight.shape[1] for name, weight in weights.items() if _is_projection(name)},
            ours.token_dims,
        ),
    }
    different = {name: pair for name, pair in found.items() if pair[0] != pair[1]}
    if different:
        said = ", ".join(f"{name} {theirs} (the model has {mine})" for name, (theirs, mine) in different.items())
        raise ValueError(
            f"The Fusion-Q-Former in {folder} has {said}. Give the ranking model the sizes of the encoder, or align an "
            "encoder with those of the model."
        )


def _is_projection(name: str) -> bool:
    return name.startswith("projections.") and name.endswith(".weight")
