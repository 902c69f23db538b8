"""Load pretrained Hugging Face backbones: safetensors only, no remote code, all weights frozen except LoRA adapters.

In: a local folder or a hub name. Out: a module whose forward pass returns the last hidden states (B, N, D). Its frozen
weights are not saved with an encoder: the name of the backbone and the SHA-256 of its weights restore them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qarm_features.encoders.backbone_files import place_of
from qarm_features.extras import naming_extra

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Names of the query, key and value projections in the attention of the models of transformers.
_ATTENTION = {"q_proj", "k_proj", "v_proj", "query", "key", "value", "q_lin", "k_lin", "v_lin", "q", "k", "v"}
_FUSED_ATTENTION = {"qkv", "qkv_proj", "Wqkv", "c_attn", "query_key_value", "in_proj"}


class PretrainedBackbone(nn.Module):
    """Run a pretrained model in evaluation mode, and without gradients unless it has LoRA adapters.

    Args:
        model: Model, or the tower of a model, that is used.
        name: Name of the backbone in the settings, for error messages.
        untrained: Names in ``model.state_dict()`` that the checkpoint did not contain.
        sha256: Expected hash of the weights; None accepts any weights.
        lora_rank: Rank of LoRA in the projections of the attention (arXiv 2106.09685); 0 keeps the model frozen.

    Raises:
        ValueError: The hash differs, or the model has no attention projection with a known name.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        name: str,
        *,
        untrained: frozenset[str] = frozenset(),
        sha256: str | None = None,
        lora_rank: int = 0,
    ) -> None:
        super().__init__()
        self.model: PreTrainedModel = model.eval().requires_grad_(False)
        self.sha256 = weights_sha256(model, skip=untrained)
        if sha256 is not None and self.sha256 != sha256:
            raise ValueError(
                f"Weights of {name} have sha256 {self.sha256}, must be {sha256} as in the encoder's manifest. "
                "Install the backbone with these weights, or publish a new encoder version."
            )
        self.trained = lora_rank > 0
        if self.trained:
            _inject_lora(model, name, lora_rank)

    @property
    def dim(self) -> int:
        """Return D, the dimension of the hidden states."""
        config = getattr(self.model.config, "text_config", None) or self.model.config
        size: Any = getattr(config, "hidden_size", None) or getattr(config, "hidden_sizes", None)
        return size[-1] if isinstance(size, list | tuple) else size

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Return the data type that float inputs must have."""
        return self.model.dtype

    def frozen_names(self) -> set[str]:
        """Return the names in ``state_dict()`` that need not be saved: all except the LoRA adapters."""
        return {name for name in self.state_dict() if "lora_" not in name}

    def train(self, mode: bool = True) -> PretrainedBackbone:
        """Set the mode of this module but keep the model in evaluation mode, without dropout.

        Args:
            mode: True for training mode, False for evaluation mode.

        Returns:
            This module.
        """
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, **inputs: Any) -> Tensor:
        """Return the last hidden states (B, N, D) float32.

        Args:
            **inputs: Tensors that the model takes, by name.

        Returns:
            Hidden states (B, N, D) float32; a feature map (B, D, height, width) becomes N = height * width tokens.
        """
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            hidden = self.model(**inputs).last_hidden_state.float()
        return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


def load_backbone(
    name: str,
    *,
    setting: str,
    tower: str | None = None,
    sha256: str | None = None,
    lora_rank: int = 0,
    subfolder: str = "",
) -> PretrainedBackbone:
    """Load a backbone.

    Args:
        name: Local folder, Hugging Face name, or ``name@revision``.
        setting: Name of the setting that holds the backbone, for error messages.
        tower: Name of the part that is used, for example ``vision_model``, where the model has a part of this name. For
            an encoder-decoder model the encoder is used instead.
        sha256: Expected hash of the weights; None accepts any weights.
        lora_rank: Rank of LoRA; 0 keeps all weights frozen.
        subfolder: Folder below ``name`` that holds the model.

    Returns:
        The backbone, in evaluation mode.

    Raises:
        ValueError: The backbone cannot be loaded as safetensors without remote code, lacks weights, or has another hash.
        ImportError: The package transformers is not installed.
    """
    with naming_extra("Pretrained backbones", "torch"):
        from transformers import AutoModel
        from transformers.utils import logging

    place = place_of(name, setting=setting)
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # weights that are missing are refused below; those of a head that is not used are no news
    try:
        model, report = AutoModel.from_pretrained(
            place.where,
            subfolder=subfolder,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **place.options(),
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{setting} is {name}, must be a folder or Hugging Face name with safetensors. transformers says: {error}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    missing = set(report["missing_keys"])
    both = all(isinstance(getattr(model, part, None), nn.Module) for part in ("encoder", "decoder"))
    tower = "encoder" if getattr(model.config, "is_encoder_decoder", False) or both else tower
    if tower is not None and isinstance(getattr(model, tower, None), nn.Module):
        model = getattr(model, tower)
        missing = {key.removeprefix(f"{tower}.") for key in missing if key.startswith(f"{tower}.")}
    # The pooling head is not used here and many checkpoints lack it. Any other missing weight would be random.
    lacking = sorted(key for key in missing if "pool" not in key)
    if lacking:
        raise ValueError(f"{setting} is {name}, must hold all weights. Its checkpoint lacks {', '.join(lacking[:3])}.")
    return PretrainedBackbone(model, name, untrained=frozenset(missing), sha256=sha256, lora_rank=lora_rank)


def locate_backbone(name: str) -> str:
    """Return the folder of a backbone that a Python package contains, or the name itself for any other backbone.

    Args:
        name: Local folder or Hugging Face name.

    Returns:
        A folder or name that transformers can load.

    Raises:
        ValueError: The name is the path of a folder that does not exist, or the package has other files than the authors of
            its model published.
    """
    return place_of(name).where


def preprocessor_config(name: str, part: str) -> dict[str, Any]:
    """Return the preprocessing configuration of a backbone.

    Args:
        name: Local folder or Hugging Face name.
        part: Section of ``processor_config.json``: ``image_processor`` or ``feature_extractor``.

    Returns:
        The configuration; ``{}`` if the backbone has none.
    """
    from transformers.utils import cached_file

    place = place_of(name)
    for file in ("preprocessor_config.json", "processor_config.json"):
        path = cached_file(
            *(place.where, file),
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **place.options(),
        )
        if path is not None:
            content = json.loads(Path(path).read_text())
            found = content if file == "preprocessor_config.json" else content.get(part, {})
            if found:
                return found
    return {}


def weights_sha256(module: nn.Module, *, skip: frozenset[str] = frozenset()) -> str:
    """Return the SHA-256 of the names and values of a module's weights, regardless of the file that held them.

    Args:
        module: Module with the weights.
        skip: Names in ``module.state_dict()`` that are left out.

    Returns:
        The hash as 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name not in skip:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _inject_lora(model: nn.Module, name: str, rank: int) -> None:
    with naming_extra("LoRA adapters", "torch"):
        from peft import LoraConfig, inject_adapter_in_model

    leaves = {path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    targets = sorted(leaves & _ATTENTION or leaves & _FUSED_ATTENTION)
    if not targets:
        raise ValueError(
            f"encoder.lora_rank is {rank}, must be 0 with {name}, which has no attention projection with a known name."
        )
    inject_adapter_in_model(
        LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, task_type="FEATURE_EXTRACTION"
        ),
        model,
    )
    for parameter in model.parameters():
        if parameter.requires_grad:  # in bfloat16, rounding would discard small updates
            parameter.data = parameter.data.float()
