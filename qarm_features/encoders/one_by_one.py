"""Find the rows that a backbone refuses, so that one of them does not end the work on all others.

In: decoded rows, and a function that encodes them together. Out: what it returns for the rows that it takes, and a reason for
each other row. Processors of images and tokenizers of others raise ``ValueError`` for content that they do not take.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from qarm_features.fusion.tokens import BrokenContent

_Encoded = TypeVar("_Encoded")
_log = logging.getLogger(__name__)


def encode_accepted(
    encode: Callable[[list[dict[str, Any]]], _Encoded], rows: Sequence[dict[str, Any]]
) -> tuple[_Encoded | None, list[str | None]]:
    """Encode rows together; if that fails, encode those that can be encoded alone.

    Args:
        encode: Function that encodes B decoded rows together.
        rows: B decoded rows, at least one.

    Returns:
        What ``encode`` returns for the accepted rows, or None if there are none; and B reasons, None for an accepted row.

    Raises:
        ValueError: None of two or more rows can be encoded, so that the fault is not that of a row.
    """
    reasons: list[str | None] = [None] * len(rows)
    try:
        return encode([*rows]), reasons
    except ValueError as error:
        together = error
    for number, row in enumerate(rows):
        try:
            encode([row])
        except BrokenContent as error:
            reasons[number] = str(error)
        except ValueError as error:  # its text may hold content of the row, so only the log shows it
            reasons[number] = f"backbone refuses the content ({type(error).__name__})"
            _log.warning("A backbone refuses an item: %s", error)
    accepted = [row for row, reason in zip(rows, reasons) if reason is None]
    if len(accepted) == len(rows) or (not accepted and len(rows) > 1):
        raise together
    return (encode(accepted) if accepted else None), reasons
