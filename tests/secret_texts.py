"""Passwords as people choose them, each with a mark by which it is found wherever it was written."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

MARK = "CANARY"
AWKWARD = (
    "it's",
    '"quoted"',
    "a#b: c",
    "back\\slash",
    "$HOME ${HOME} $",
    "two\nlines",
    " blanks ",
    "%2F@/?&=*!|>",
    "ünïcödé€😀",
    "- {a: b}, [c]",
    "'''",
    "tab\tand %s {x}",
)


def awkward_secrets() -> list[str]:
    """Returns secrets that hold every character with a meaning somewhere, and the mark."""
    return [f"{MARK}{number}{text}{MARK}" for number, text in enumerate(AWKWARD)]


def places_of(mark: str, folder: Path) -> list[str]:
    """Returns the files below a folder that hold a mark, as it is, percent-encoded, as JSON or in base64."""
    forms = {mark, quote(mark), json.dumps(mark)[1:-1]}
    wanted = [form.encode() for form in forms] + [base64.b64encode(mark.encode())[:-2]]
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(str(path.relative_to(folder)) for path in files if any(one in path.read_bytes() for one in wanted))
