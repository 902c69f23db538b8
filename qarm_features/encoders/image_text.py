"""Encode the image and the text of an item together, by one vision-language model.

In: B pairs of an image and a text; one of the two may be missing. Out: ``Tokens`` of shape (B, N, D), the last hidden
states of the model, and one vector for each pair, made as the authors of the model do. QARM and EM3 use a multimodal
language model in this way (arXiv 2411.11739, section 3.1; arXiv 2404.06078).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from qarm_features.encoders.backbone_files import (
    CONFIG_FILES,
    PROCESSOR_FILES,
    TOKENIZER_FILES,
    pin_backbone,
    pins,
    place_of,
    recorded_files,
    vocabulary_files,
)
from qarm_features.encoders.chat import Chat
from qarm_features.encoders.embedding_head import open_head, saved_recipe
from qarm_features.encoders.media_limits import ImageLimits, decode_image, to_tensor
from qarm_features.encoders.plain_text import SpecialTokens, is_unicode
from qarm_features.encoders.pretrained import load_backbone
from qarm_features.encoders.recipe import Recipe, full_recipe, read_recipe
from qarm_features.fusion.tokens import BrokenContent, Tokens

_LONGEST_ASPECT = 200  # the processors of Qwen refuse more
_CHARACTERS_PER_TOKEN = 16
_MOST_CHARACTERS_PER_TOKEN = 64  # a text of a chat is cut by its tokens later, so this cut must not come first


class ImageTextEncoder(nn.Module):
    """Encode pairs of an image and a text by a pretrained vision-language model (Qwen2-VL, LLaVA, Idefics, ...).

    Args:
        backbone: Folder or Hugging Face name of a model whose processor takes images and text.
        sha256: Expected hash of the weights; None accepts any weights.
        revision: Commit of the hub to load; None takes the one that the name stands for.
        files: Expected SHA-256 of the files of processor and configuration, by name; None accepts any.
        lora_rank: Rank of LoRA in the attention of the backbone; 0 keeps the backbone frozen.
        max_tokens: Greatest length of a text: it is cut to 16 characters for each of these tokens. The tokens of the
            image are added to them.
        max_image_side: Greatest longer side of an image, in pixels; a larger image is shrunk to it. None means 4096 for a
            model whose authors say how they embed, which then shrinks it as they say, and 768 for any other.
        recipe: Prompt, chat template, pooling and layers, from ``read_recipe``; None reads them from the backbone's files.
        prompt: Name of one of the authors' prompts, or a prompt written out; None takes their prompt of documents. This and
            the next two are used only without a recipe.
        pooling: Way of pooling in place of the authors'; None takes theirs.
        vector_dim: Number of values that are kept of the vector (Matryoshka); None keeps as many as the authors.
        special_tokens: ``as text``, so that ``</s>`` in a title is four characters; or ``as tokens``, as encoders were made
            that were saved without this argument. The tokens that stand for an image are text in any case.
        media_roots: Folders and URI prefixes under which images may be read.
        max_media_bytes: Greatest size of a file, in bytes; a larger one is refused.
        max_image_pixels: Greatest number of pixels of an image; a larger one is refused without being decoded.
        max_image_scans: Greatest number of scans of a progressive JPEG; one with more is refused without being decoded.
        max_decoded_bytes: Greatest number of bytes that decoding one image may need.
        max_decode_seconds: Longest processor time of decoding one image, in seconds.

    Attributes:
        recipe: The complete recipe.
        head: Pooling and layers; None for an encoder of release 0.1.0, whose kept tokens are averaged.

    Raises:
        ValueError: The backbone or its processor cannot be loaded, the hash of its weights differs, or it cannot be used as
            its authors publish it.

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
        revision: str | None = None,
        files: Mapping[str, str] | None = None,
        lora_rank: int = 0,
        max_tokens: int = 128,
        max_image_side: int | None = None,
        recipe: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        pooling: str | None = None,
        vector_dim: int | None = None,
        special_tokens: Literal["as text", "as tokens"] = "as text",
        media_roots: Sequence[str] = (),
        max_media_bytes: int = 20_000_000,
        max_image_pixels: int = 50_000_000,
        max_image_scans: int = 64,
        max_decoded_bytes: int = 400_000_000,
        max_decode_seconds: float = 10.0,
    ) -> None:
        super().__init__()
        setting = "encoder.image_text_backbone"
        name = backbone
        backbone, revision = pin_backbone(name, revision, setting=setting)
        if recipe is None:
            recipe = read_recipe(backbone, setting=setting, prompt=prompt, pooling=pooling, dim=vector_dim)
        self.recipe = full_recipe(recipe)
        self.backbone = load_backbone(
            backbone, setting=setting, sha256=sha256, lora_rank=lora_rank, subfolder=self.recipe["subfolder"]
        )
        self.processor = _load_processor(backbone, self.recipe)
        self.tokenizer = self.processor.tokenizer
        self._special = SpecialTokens(self.tokenizer, self.processor, only_media=special_tokens == "as tokens")
        self.max_tokens, self.chat = max_tokens, None
        if self.recipe["chat"] is not None:
            named = f"{setting} is {backbone}"
            self.chat = Chat(self.processor, self.tokenizer, self.recipe, backbone=named)
            allowed = self.recipe["max_tokens"] or self.tokenizer.model_max_length
            self.max_tokens = self.chat.longest_text(max_tokens, allowed, backbone=named)
        files = recorded_files(
            *(backbone, (*CONFIG_FILES, *PROCESSOR_FILES, *TOKENIZER_FILES, *vocabulary_files(self.tokenizer))),
            subfolder=self.recipe["subfolder"],
            recorded=files,
            setting=setting,
        )
        self.head = open_head(backbone, self.recipe, token_dim=self.backbone.dim, setting=setting)
        self.trained = self.backbone.trained
        self.max_image_side = max_image_side or (768 if self.chat is None else 4096)
        self.limits = ImageLimits(
            tuple(media_roots),
            max_media_bytes,
            max_image_pixels,
            max_image_scans,
            max_decoded_bytes,
            max_decode_seconds,
        )
        self.config: dict[str, Any] = {
            "backbone": name,
            "sha256": self.backbone.sha256,
            **pins(revision, files),
            "lora_rank": lora_rank,
            "max_tokens": max_tokens,
            "max_image_side": self.max_image_side,
            "recipe": saved_recipe(recipe, self.head),
            **({"special_tokens": special_tokens} if special_tokens == "as text" else {}),
            **self.limits.as_arguments(),
        }

    @property
    def dim(self) -> int:
        """Return D, the dimension of the tokens."""
        return self.backbone.dim

    def frozen_names(self) -> set[str]:
        """Return the names in ``state_dict()`` that are not saved, because the backbone's name and hash restore them."""
        head = {f"head.{name}" for name in self.head.state_dict()} if self.head else set()
        return {f"backbone.{name}" for name in self.backbone.frozen_names()} | head

    def decode(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Decode one pair.

        Args:
            raw: A mapping with ``image``, which is bytes, a URI or None, and ``text``, which is a string or None.

        Returns:
            A mapping with ``image``, which is (3, height, width) uint8 or None, and ``text``, which is a string and empty
            where the item has no text.

        Raises:
            BrokenContent: Both are missing, the text is not valid Unicode, or the image cannot be read, is too large, is far
                longer than wide, or is truncated or damaged.
        """
        image, text = raw.get("image"), raw.get("text")
        if image is None and not text:
            raise BrokenContent("image and text are both missing")
        if text is not None and not isinstance(text, str):
            raise BrokenContent("text is not a string")
        if text is not None and not is_unicode(text):
            raise BrokenContent("text is not valid Unicode")
        if image is not None:
            image = to_tensor(decode_image(image, self.limits, longest_side=self.max_image_side))
            if max(image.shape[1:]) > _LONGEST_ASPECT * min(image.shape[1:]):
                raise BrokenContent(f"image is more than {_LONGEST_ASPECT} times as long as wide")
        characters = _CHARACTERS_PER_TOKEN if self.chat is None else _MOST_CHARACTERS_PER_TOKEN
        return {"image": image, "text": (text or "")[: characters * self.max_tokens]}

    def forward(self, decoded: Sequence[Mapping[str, Any]]) -> Tokens:
        """Encode B pairs; pairs with an image and pairs without one run through the model separately.

        Args:
            decoded: B mappings that ``decode`` returned.

        Returns:
            ``Tokens`` of shape (B, N, D) of the image and the text, in the order of the model, without those of the prompt.
        """
        return self._hidden_states(decoded)[0]

    def encode(self, decoded: Sequence[Mapping[str, Any]]) -> tuple[Tokens, Tensor]:
        """Encode B pairs to tokens and to one vector each.

        Args:
            decoded: B mappings that ``decode`` returned.

        Returns:
            ``Tokens`` as ``forward`` returns them, and vectors (B, P) float32 as the authors make them, up to their length.
        """
        assert self.head is not None  # has_head() asks before
        tokens, whole = self._hidden_states(decoded)
        return tokens, self.head(tokens.values, whole, whole)

    def _hidden_states(self, decoded: Sequence[Mapping[str, Any]]) -> tuple[Tokens, Tensor]:
        """Return the tokens, and for each token whether the model saw it (B, N): it did see the prompt."""
        with_image = [row for row, pair in enumerate(decoded) if pair["image"] is not None]
        without_image = [row for row, pair in enumerate(decoded) if pair["image"] is None]
        parts = [(rows, self._encode([decoded[row] for row in rows])) for rows in (with_image, without_image) if rows]
        longest = max(part.values.shape[1] for _, part in parts)
        values = parts[0][1].values.new_zeros(len(decoded), longest, self.dim)
        whole = torch.zeros(len(decoded), longest, dtype=torch.bool, device=values.device)
        for rows, part in parts:
            places = torch.tensor(rows, device=values.device)
            missing = longest - part.values.shape[1]
            values = values.index_copy(0, places, nn.functional.pad(part.values, (0, 0, 0, missing)))
            whole = whole.index_copy(0, places, nn.functional.pad(part.mask, (0, missing)))
        before = 0 if self.chat is None else self.chat.tokens_before
        return Tokens(values, whole & (whole.cumsum(1) > before)), whole

    def _encode(self, pairs: Sequence[Mapping[str, Any]]) -> Tokens:
        images = [[_picture(pair["image"])] for pair in pairs] if pairs[0]["image"] is not None else None
        prompts = [self._prompt(pair["text"], with_image=images is not None) for pair in pairs]
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        if self.chat is not None:
            options["add_special_tokens"] = self.chat.special_tokens(prompts[0])
        if images is not None and self.recipe["images"]:
            options["images_kwargs"] = self.recipe["images"]
        inputs = self.processor(text=prompts, images=images, **options)
        inputs = {
            name: value.to(self.backbone.device, self.backbone.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }
        return Tokens(self.backbone(**inputs), inputs["attention_mask"].bool())

    def _prompt(self, text: str, *, with_image: bool) -> str:
        text = self._special.as_text(text)
        if self.chat is not None:
            return self.chat.write(self.chat.cut(text, self.max_tokens), with_image=with_image)
        text = self.recipe["prompt"] + text
        content = [{"type": "text", "text": text}]
        if with_image:
            content.insert(0, {"type": "image"})
        if getattr(self.processor, "chat_template", None):
            return self.processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        return f"{self.processor.image_token}\n{text}" if with_image else text or " "


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def _load_processor(backbone: str, recipe: Recipe) -> Any:
    from transformers import AutoProcessor

    place = place_of(backbone, setting="encoder.image_text_backbone")
    options = {**recipe["tokenizer"], **place.options()}
    try:
        return AutoProcessor.from_pretrained(
            place.where, subfolder=recipe["subfolder"], trust_remote_code=False, **options
        )
    except (OSError, ValueError, ImportError, TypeError) as error:
        if importlib.util.find_spec("torchvision") is None and "torchvision" in str(error).lower():
            raise ImportError(
                f"The processor of {backbone} (encoder.image_text_backbone) needs the package torchvision, which is not "
                "installed. Run: pip install torchvision",
                name="torchvision",
            ) from error
        raise ValueError(
            f"encoder.image_text_backbone is {backbone}, must hold a processor of images and text. "
            f"transformers says: {error}"
        ) from error
