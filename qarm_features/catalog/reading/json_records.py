"""Lines of a JSON Lines file become values, each as the text that the other formats give for the same value.

In: a decoded line. Out: the values of the columns that the settings name, or the reason for which the line is rejected.
Numbers keep their digits. A list becomes its elements, joined by commas, and an object becomes its keys and values. ::

    {"sku": 7, "tags": ["red", "tall"]}        7 | red, tall
    {"sku": 8} {"sku": 9}                      rejected: text follows the JSON object
"""

from __future__ import annotations

import json
from typing import Any

NO_OBJECT = "the line is not a JSON object"
TEXT_AFTER_OBJECT = "text follows the JSON object"
KEY_TWICE = "the JSON object has a key twice"


class _Number(str):
    """A number as it stands in the line. Its digits are kept."""

    __slots__ = ()


class _KeyTwice(ValueError):
    pass


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise _KeyTwice
    return entries


_DECODER = json.JSONDecoder(
    parse_int=_Number, parse_float=_Number, parse_constant=_Number, object_pairs_hook=_each_key_once
)


def parse(text: str) -> dict[str, Any] | str:
    """Return the object on a line, or the reason for which it cannot be read. Numbers are kept as their text.

    Example:
        >>> parse('{"sku": 1.50}')
        {'sku': '1.50'}
        >>> parse('{"sku": 1}, {"sku": 2}')
        'text follows the JSON object'
    """
    text = text.strip()
    try:
        value, end = _DECODER.raw_decode(text)
    except _KeyTwice:
        return KEY_TWICE
    except (ValueError, RecursionError):
        return NO_OBJECT
    if not isinstance(value, dict):
        return NO_OBJECT
    return value if end == len(text) else TEXT_AFTER_OBJECT


def as_text(value: Any) -> str | None:
    """Return a value as text: a list as its elements, an object as its keys and values in the order of the keys.

    Elements that are null or empty are left out. ``text_of_nested`` in ``nested_text.py`` does the same for columns.

    Example:
        >>> as_text({"size": ["1", None, "L"], "color": "red", "note": []})
        'color: red, size: 1, L'
    """
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        texts = ((key, as_text(value[key])) for key in sorted(value))
        return ", ".join(f"{key}: {text}" for key, text in texts if text)
    return ", ".join(text for element in value if (text := as_text(element)))


def as_json(value: Any) -> str | None:
    """Return a value as JSON again, with the digits that its numbers had; text stays as it is, and null is None.

    Example:
        >>> as_json(parse('{"v": [1, 2.50, null, "x"]}')["v"])
        '[1, 2.50, null, "x"]'
    """
    return value if value is None or isinstance(value, str) else _dumped(value)


def _dumped(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_dumped, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)}: {_dumped(entry)}' for key, entry in value.items())}}}"
    return json.dumps(value)
