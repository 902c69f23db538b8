"""Encode the image and the text of an item together, by one vision-language model.

In: B pairs of an image and a text; one of the two may be missing. Out: ``Tokens`` of shape (B, N, D), the last hidden
states of the model. QARM and EM3 use a multimodal language model in this way (arXiv 2411.11739, section 3.1;
arXiv 2404.06078).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from qarm_features.encoders.media import media_bytes
from qarm_features.encoders.pictures import decode_picture, to_tensor
from qarm_features.encoders.pretrained import load_backbone, locate_backbone
from qarm_features.fusion.tokens import BrokenContent, Tokens

_CHARACTERS_PER_TOKEN = 16


class ImageTextEncoder(nn.Module):
    """Encode pairs of an image and a text by a pretrained vision-language model (Qwen2-VL, LLaVA, Idefics, ...).

    Args:
        backbone: Folder or Hugging Face name of a model whose processor takes images and text.
        sha256: Expected hash of the weights; None accepts any weights.
        lora_rank: Rank of LoRA in the attention of the backbone; 0 keeps the backbone frozen.
        max_tokens: Greatest length of a text: it is cut to 16 characters for each of these tokens. The tokens of the
            image are added to them.
        max_image_side: Greatest longer side of an image, in pixels; a larger image is shrunk to it.
        media_roots: Folders and URI prefixes under which images may be read.
        max_media_bytes: Greatest size of a file, in bytes; a larger one is refused.
        max_image_pixels: Greatest number of pixels of an image; a larger one is refused without being decoded.

    Raises:
        ValueError: The backbone or its processor cannot be loaded, or the hash of its weights differs.

    Example::

        encoder = ImageTextEncoder("models/llava")  # a folder that transformers can load
        pair = encoder.decode({"image": Path("lamp.jpg").read_bytes(), "text": "A red lamp."})
        tokens = encoder([pair])  # tokens.values has shape (1, N, D)
    """

    def __init__(
        self,
        backbone: str,
        *,
        sha256: str | None = None,
        lora_rank: int = 0,
        max_tokens: int = 128,
        max_image_side: int = 768,
        media_roots: Sequence[str] = (),
        max_media_bytes: int = 20_000_000,
        max_image_pixels: int = 50_000_000,
    ) -> None:
        super().__init__()
        self.backbone = load_backbone(
            backbone, setting="encoder.image_text_backbone", sha256=sha256, lora_rank=lora_rank
        )
        self.processor = _load_processor(backbone)
        self.trained = self.backbone.trained
        self.max_tokens, self.max_image_side = max_tokens, max_image_side
        self.media_roots = tuple(media_roots)
        self.max_media_bytes, self.max_image_pixels = max_media_bytes, max_image_pixels
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "sha256": self.backbone.sha256,
            "lora_rank": lora_rank,
            "max_tokens": max_tokens,
            "max_image_side": max_image_side,
            "media_roots": list(media_roots),
            "max_media_bytes": max_media_bytes,
            "max_image_pixels": max_image_pixels,
        }

    @property
    def dim(self) -> int:
        """Return D, the dimension of the tokens."""
        return self.backbone.dim

    def frozen_names(self) -> set[str]:
        """Return the names in ``state_dict()`` that are not saved, because the backbone's name and hash restore them."""
        return {f"backbone.{name}" for name in self.backbone.frozen_names()}

    def decode(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Decode one pair.

        Args:
            raw: A mapping with ``image``, which is bytes, a URI or None, and ``text``, which is a string or None.

        Returns:
            A mapping with ``image``, which is (3, height, width) uint8 or None, and ``text``, which is a string and empty
            where the item has no text.

        Raises:
            BrokenContent: Both are missing, or the image cannot be read, is too large, or is truncated or damaged.
        """
        image, text = raw.get("image"), raw.get("text")
        if image is None and not text:
            raise BrokenContent("image and text are both missing")
        if text is not None and not isinstance(text, str):
            raise BrokenContent("text is not a string")
        if image is not None:
            content = media_bytes(image, medium="image", roots=self.media_roots, max_bytes=self.max_media_bytes)
            picture = decode_picture(content, max_pixels=self.max_image_pixels, draft=self.max_image_side)
            picture.thumbnail((self.max_image_side, self.max_image_side))
            image = to_tensor(picture)
        return {"image": image, "text": (text or "")[: _CHARACTERS_PER_TOKEN * self.max_tokens]}

    def forward(self, decoded: Sequence[Mapping[str, Any]]) -> Tokens:
        """Encode B pairs; pairs with an image and pairs without one run through the model separately.

        Args:
            decoded: B mappings that ``decode`` returned.

        Returns:
            ``Tokens`` of shape (B, N, D) of the image and the text, in the order of the model.
        """
        with_image = [row for row, pair in enumerate(decoded) if pair["image"] is not None]
        without_image = [row for row, pair in enumerate(decoded) if pair["image"] is None]
        parts = [(rows, self._encode([decoded[row] for row in rows])) for rows in (with_image, without_image) if rows]
        longest = max(part.values.shape[1] for _, part in parts)
        values = parts[0][1].values.new_zeros(len(decoded), longest, self.dim)
        mask = torch.zeros(len(decoded), longest, dtype=torch.bool, device=values.device)
        for rows, part in parts:
            places = torch.tensor(rows, device=values.device)
            missing = longest - part.values.shape[1]
            values = values.index_copy(0, places, nn.functional.pad(part.values, (0, 0, 0, missing)))
            mask = mask.index_copy(0, places, nn.functional.pad(part.mask, (0, missing)))
        return Tokens(values, mask)

    def _encode(self, pairs: Sequence[Mapping[str, Any]]) -> Tokens:
        images = [[_picture(pair["image"])] for pair in pairs] if pairs[0]["image"] is not None else None
        prompts = [self._prompt(pair["text"], with_image=images is not None) for pair in pairs]
        inputs = self.processor(text=prompts, images=images, padding=True, return_tensors="pt")
        inputs = {
            name: value.to(self.backbone.device, self.backbone.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }
        return Tokens(self.backbone(**inputs), inputs["attention_mask"].bool())

    def _prompt(self, text: str, *, with_image: bool) -> str:
        content = [{"type": "text", "text": text}]
        if with_image:
            content.insert(0, {"type": "image"})
        if getattr(self.processor, "chat_template", None):
            return self.processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        return f"{self.processor.image_token}\n{text}" if with_image else text or " "


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def _load_processor(backbone: str) -> Any:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(locate_backbone(backbone), trust_remote_code=False)
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise ValueError(
            f"encoder.image_text_backbone is {backbone}, must hold a processor of images and text. "
            f"transformers says: {error}"
        ) from error
