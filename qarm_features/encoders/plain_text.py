"""Read the text of a stranger as text, also where it holds the names of special tokens.

In: a text such as ``Lamp <|image_pad|></s>``. Out: the same text in which no special token is found any more: a space stands
behind the first character of each name. A text without such names is returned as it is, so that its embedding is the same.
The special tokens of prompts and templates are not touched, because only the texts of items pass through here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_ROUNDS = 4
_OF_IMAGES = ("image_token", "video_token", "audio_token")  # some processors define them as properties
_ROLES = ("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "pad_token_id", "mask_token_id")


class SpecialTokens:
    """Know the special tokens of a tokenizer.

    Args:
        tokenizer: Tokenizer of a backbone.
        processor: Processor of images and text, which replaces the tokens of images before the text is tokenized.
        only_media: Whether only the tokens of the processor count.

    Attributes:
        ids: Numbers of the special tokens, without that of unknown words.
    """

    def __init__(self, tokenizer: Any, processor: Any = None, *, only_media: bool = False) -> None:
        self._tokenizer = tokenizer
        known = {
            name: getattr(processor, name, None)
            for name in {*_OF_IMAGES, *(vars(processor) if processor is not None else ())}
        }
        names = {str(token) for name, token in known.items() if _names_a_token(name, token, only_media=only_media)}
        if not only_media:
            names |= set(tokenizer.all_special_tokens)
            names |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        unknown = getattr(tokenizer, "unk_token_id", None)
        if unknown in {getattr(tokenizer, role, None) for role in _ROLES}:
            unknown = None
        found = zip(names, tokenizer.convert_tokens_to_ids([*names]))
        vocabulary = tokenizer.get_vocab()
        self.ids = frozenset(number for name, number in found if name in vocabulary and number != unknown)
        long = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, long))) if long else None

    def as_text(self, text: str) -> str:
        """Return a text in which no special token is found.

        Args:
            text: Text of an item.

        Returns:
            The text, with a space inside the name of each special token.
        """
        for _ in range(_ROUNDS):
            before = text
            if self._names is not None:
                text = self._names.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
            # Normalization can make other characters into the name of a token.
            text = _with_inserted(text, self._spans(text))
            if text == before:
                return text
        for start, end in reversed(self._spans(text)):
            text = text[:start] + " " + text[end:]
        return text

    def find(self, ids: Tensor) -> Tensor:
        """Return which of the token numbers (B, N) are those of special tokens: (B, N) bool."""
        return torch.isin(ids, torch.tensor(sorted(self.ids), dtype=ids.dtype, device=ids.device))

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Return begin and end of special tokens that the tokenizer finds, of at least two characters."""
        if not self._tokenizer.is_fast or not self.ids:
            return []
        found = self._tokenizer([text], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans = zip(found["input_ids"][0], found["offset_mapping"][0])
        return [(start, end) for number, (start, end) in spans if number in self.ids and end - start > 1]


def _names_a_token(name: str, value: Any, *, only_media: bool) -> bool:
    """Return whether an attribute of a processor names a token, or one that stands for an image, a video or a sound."""
    if not name.endswith("token") or type(value).__name__ not in ("str", "AddedToken") or not str(value):
        return False
    return not only_media or any(medium in name for medium in ("image", "video", "audio", "vision"))


def is_unicode(text: str) -> bool:
    """Return False if a text holds half a surrogate pair, which tokenizers refuse."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_inserted(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Insert a space behind the first visible character of each span; a span may begin with spaces."""
    for start, end in sorted(spans, reverse=True):
        place = start + len(text[start:end]) - len(text[start:end].lstrip()) + 1
        text = text[:place] + " " + text[place:]
    return text
