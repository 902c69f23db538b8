"""Objects that stand on one line each, as JSON or as literals of Python, and their values as text.

In: a file. Out: dicts. A line that is no object is counted and left out. Numbers of JSON keep their digits.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qarm_features.importers.lines import LONGEST_LINE, read_lines
from qarm_features.importers.plan import Value
from qarm_features.importers.tally import Tally

LONGEST_LITERAL = 2**20  # bytes; Python's parser needs a hundred times the memory of its text


def json_objects(path: Path, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    """Returns the objects of a JSON Lines file with the numbers of their lines.

    Args:
        path: File, which may be packed.
        tally: Counts the lines.
    """
    return _objects(path, tally, parsed_json, longest=LONGEST_LINE, otherwise="a line that is no JSON object")


def literal_objects(path: Path, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    """Returns dicts that are written as literals of Python, ``{u'id': u'10'}``, with the numbers of their lines.

    ``ast.literal_eval`` reads them, which runs no code. Lines of JSON are read too.

    Args:
        path: File, which may be packed.
        tally: Counts the lines.
    """
    return _objects(path, tally, parsed_literal, longest=LONGEST_LITERAL, otherwise="a line that is no dict of Python")


def parsed_json(text: str) -> dict[str, Any] | None:
    """Returns the object of a line, or None.

    Args:
        text: Line.
    """
    try:
        found = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def parsed_literal(text: str) -> dict[str, Any] | None:
    """Returns the dict of a line, or None.

    Args:
        text: Line.
    """
    try:
        found = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return parsed_json(text)
    return found if isinstance(found, dict) else None


def _objects(
    path: Path, tally: Tally, parse: Callable[[str], dict[str, Any] | None], *, longest: int, otherwise: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields what ``parse`` finds on each line, and leaves out the other lines for the reason ``otherwise``."""
    for number, text in read_lines(path, tally, longest=longest):
        found = parse(text)
        if found is None:
            tally.leave_out(otherwise, path.name, number, text)
        else:
            yield number, found


def text_at(found: dict[str, Any], key: str) -> str | None:
    """Returns the value of a key as text; None if there is none. Lists and objects become JSON.

    Args:
        found: Object.
        key: Key.
    """
    return as_text(found.get(key))


def as_text(value: Any) -> str | None:
    """Returns a value as text.

    Args:
        value: Value of JSON or of a literal.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list, tuple)) else str(value)


def list_at(found: dict[str, Any], key: str) -> Value:
    """Returns the value of a key as a list of texts. A single text becomes a list of one.

    Args:
        found: Object.
        key: Key.
    """
    value = found.get(key)
    if value is None:
        return None
    entries = value if isinstance(value, (list, tuple)) else [value]
    return [text for text in map(as_text, entries) if text]
