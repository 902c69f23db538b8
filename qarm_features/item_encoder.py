"""The ``ItemEncoder``: raw columns of an item become its item embedding (D), unit L2 norm.

In: B rows as columns (``{"text": [...]}``). Out: (B, D). Version 0 is the pooled output of the frozen backbone, before
any alignment (QARM, arXiv 2411.11739, section 1: the representation that still is unmatched).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from qarm_features.artifacts import Artifact, Artifacts, fingerprint
from qarm_features.encoders import TextEncoder
from qarm_features.encoders.text import Tokens
from qarm_features.settings import Encoder

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"


class ItemEncoder(nn.Module, PyTorchModelHubMixin):
    """Encodes items.

    Args:
        text_backbone: Folder or Hugging Face name of the text backbone.
        max_tokens: Longer texts are cut.
        text_backbone_sha256: Hash of the backbone's weights; filled in when None, checked otherwise.
    """

    def __init__(self, text_backbone: str, *, max_tokens: int = 128, text_backbone_sha256: str | None = None):
        super().__init__()
        self.text = TextEncoder(text_backbone, max_tokens=max_tokens, sha256=text_backbone_sha256)
        self.config = {
            "text_backbone": text_backbone,
            "max_tokens": max_tokens,
            "text_backbone_sha256": self.text.sha256,
        }
        self.eval()

    @property
    def dim(self) -> int:
        """D of the item embedding."""
        return self.text.dim

    def forward(self, columns: Mapping[str, Sequence]) -> Tensor:
        """Encodes B rows.

        Args:
            columns: ``text``: B strings.

        Returns:
            (B, D) float32, unit L2 norm.
        """
        return functional.normalize(mean_pool(self.text(columns["text"])).float(), dim=-1)

    @torch.inference_mode()
    def encode(self, columns: Mapping[str, Sequence], *, batch_size: int = 64) -> Tensor:
        """Encodes any number of rows in batches sorted by length, which pads least.

        Args:
            columns: ``text``: B strings.
            batch_size: Rows encoded at once.

        Returns:
            (B, D) float32 on the CPU, in the order of the rows.
        """
        texts = columns["text"]
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        embeddings = torch.empty(len(texts), self.dim)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            embeddings[rows] = self({"text": [texts[row] for row in rows]}).cpu()
        return embeddings

    def _save_pretrained(self, save_directory: Path) -> None:
        frozen = {f"text.backbone.{name}" for name in self.text.backbone.state_dict()}
        save_file({k: v for k, v in self.state_dict().items() if k not in frozen}, save_directory / _WEIGHTS)
        (save_directory / _CONFIG).write_text(json.dumps(self.config, indent=2))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **_) -> ItemEncoder:
        folder = Path(model_id)
        if not (folder / _CONFIG).is_file():
            raise ValueError(f"Encoder is {model_id}, must be a folder with {_CONFIG} and {_WEIGHTS}.")
        encoder = cls(**json.loads((folder / _CONFIG).read_text()))
        encoder.load_state_dict(load_file(folder / _WEIGHTS), strict=False)
        return encoder.eval()


def mean_pool(tokens: Tokens) -> Tensor:
    """Averages the tokens that stand.

    Args:
        tokens: (B, N, D) and its mask (B, N).

    Returns:
        (B, D).
    """
    mask = tokens.mask.unsqueeze(-1).to(tokens.values.dtype)
    return (tokens.values * mask).sum(1) / mask.sum(1).clamp(min=1)


def current_encoder(artifacts: Artifacts, settings: Encoder) -> Artifact:
    """Returns the newest encoder version on the backbone of the settings; publishes the unaligned one when none is.

    Args:
        artifacts: All encoder versions.
        settings: The section ``encoder``.
    """
    backbone = fingerprint({"text_backbone": settings.text_backbone, "max_tokens": settings.max_tokens})
    found = artifacts.find(backbone=backbone)
    if found is not None:
        return found.verify()
    encoder = ItemEncoder(settings.text_backbone, max_tokens=settings.max_tokens)
    return artifacts.publish(
        encoder.save_pretrained, backbone=backbone, aligned=False, dim=encoder.dim, config=encoder.config
    )
