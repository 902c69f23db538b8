"""Write an item as messages of a chat, as embedders that grew out of chat models expect it.

In: the processor or tokenizer of a backbone, and a recipe. Out: one string for each item, which starts with the prompt as the
system message, and what of it is not content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MARK = "0"  # stands for the content of an item; any text that the template keeps as it is


class Chat:
    """Write items by the chat template of a backbone.

    Args:
        template: Processor or tokenizer with a chat template.
        tokenizer: Its tokenizer.
        recipe: Complete recipe, whose ``chat`` is not None.
        backbone: Setting and name of the backbone, for error messages.

    Attributes:
        tokens_before: Number of tokens before the content of an item.
        tokens_around: Number of tokens before and behind the content.

    Raises:
        ValueError: The backbone has no chat template.
    """

    def __init__(self, template: Any, tokenizer: Any, recipe: Mapping[str, Any], *, backbone: str) -> None:
        if not getattr(template, "chat_template", None):
            raise ValueError(
                f"{backbone}, which reads items as messages of a chat but has no chat template. Download it again."
            )
        self._template, self._tokenizer = template, tokenizer
        self._prompt: str = recipe["prompt"]
        options = dict(recipe["chat"])
        self._flat = options.pop("format", "structured") == "flat"
        self._suffix: str = options.pop("suffix", "")
        self._options = options
        begin, _, end = self.write(_MARK).rpartition(_MARK)
        self.tokens_before = self._count(begin)
        self.tokens_around = self.tokens_before + self._count(end)

    def write(self, text: str, *, with_image: bool = False) -> str:
        """Return one item as a string: system message, image, text.

        Args:
            text: Text of the item; an empty one is left out if there is an image.
            with_image: Whether the item has an image, for which a placeholder is written.

        Returns:
            The string that is tokenized.
        """
        parts: list[dict[str, str]] = [{"type": "image"}] if with_image else []
        if text or not with_image:
            parts.append({"type": "text", "text": text})
        messages = [{"role": "user", "content": text if self._flat else parts}]
        if self._prompt:
            system = self._prompt if self._flat else [{"type": "text", "text": self._prompt}]
            messages.insert(0, {"role": "system", "content": system})
        written: str = self._template.apply_chat_template(messages, tokenize=False, **self._options)
        return written + self._suffix

    def longest_text(self, asked: int, allowed: int, *, backbone: str) -> int:
        """Return the number of tokens at which a text is cut, so that the template fits around it.

        Args:
            asked: Number that the setting asks for.
            allowed: Greatest number of tokens that the backbone reads at once.
            backbone: Setting and name of the backbone, for error messages.

        Raises:
            ValueError: Template and prompt alone are too long.
        """
        if allowed <= self.tokens_around:
            raise ValueError(
                f"{backbone}, which reads {allowed} tokens, but its template and the prompt {self._prompt!r} alone have "
                f"{self.tokens_around}. Set a shorter encoder.text_prompt."
            )
        return min(asked, allowed - self.tokens_around)

    def cut(self, text: str, most: int) -> str:
        """Return the text without what lies behind its first ``most`` tokens."""
        found = self._tokenizer(
            [text], add_special_tokens=False, truncation=True, max_length=most + 1, return_offsets_mapping=True
        )
        ends = found["offset_mapping"][0]
        return text if len(ends) <= most else text[: ends[most - 1][1]]

    def special_tokens(self, written: str) -> bool:
        """Return whether the tokenizer may add its special tokens to a written item, which may begin with one."""
        begin = self._tokenizer.bos_token
        return not (begin and written.startswith(begin))

    def _count(self, part: str) -> int:
        return len(self._tokenizer([part], add_special_tokens=False)["input_ids"][0])
