"""The files of the page, as they lie in the package.

In: a name. Out: its place and its content type.
"""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parent / "page"
INDEX = PAGE / "index.html"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def content_type(name: str) -> str | None:
    """Return the content type of a file; None for a name that is not a file of the page.

    Args:
        name: Path below the folder of the page, such as ``views/tree.js``.
    """
    inside = PAGE in (PAGE / name).resolve().parents
    return _TYPES.get(Path(name).suffix) if inside else None
