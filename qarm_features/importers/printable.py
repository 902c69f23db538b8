"""Text from files of strangers as text that a screen and a comment can hold.

In: text with any signs. Out: text without signs that move a cursor, end a line or hide what follows.
"""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    r"""Returns text whose signs can all be printed; the others become blanks.

    Args:
        text: Text.
        keep: Signs that stay in any case.

    Example:
        >>> printable("a\x1b[2Jb\nc")
        'a [2Jb c'
    """
    return "".join(sign if sign.isprintable() or sign in keep else " " for sign in text)
