"""The explorer as one page that needs neither a server nor a network.

In: an ``Explorer``. Out: an HTML file. Its data lie inside as parts, gzip in base64 in script tags of type
``application/json``, which nothing runs; ``page/js/file_source.js`` opens a part when a page asks for it::

    lines      the items as columns; elsewhere in the parts, {"#": 3} stands for the fourth one
    index      summary, moves, figures, lineage, collisions, map, the top of the tree, and the sizes of the other parts
    tree-0     the prefixes below some codes of level 1
    items-0    texts, neighbors and histories of 1,000 items; users-0 and pictures-0 alike
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qarm_features.explorer.bundle_parts import Lines, Parts, chosen_items
from qarm_features.explorer.one_html import around_data
from qarm_features.explorer.store import Explorer

MOST_ITEMS = 100_000
Progress = Callable[[int, int], None]


def write_page(
    explorer: Explorer, path: Path, *, force: bool = False, most: int = MOST_ITEMS, progress: Progress | None = None
) -> int:
    """Write the page. A file of the name is there as a whole or not at all.

    Args:
        explorer: What the page shows.
        path: File to write.
        force: Whether a file of this name may be replaced.
        most: Highest number of items. Of more, those with the lowest hash of their ID are kept, and the page says so.
        progress: Called with the number of items that are done and of all.

    Returns:
        Number of items in the page.

    Raises:
        ValueError: The file exists, or its folder does not.
    """
    if path.exists() and not force:
        raise ValueError(f"{path} exists already. Choose another name, or replace it with --force.")
    if not path.parent.is_dir():
        raise ValueError(f"The folder {path.parent} does not exist. Create it first.")
    before, after = around_data()
    lines = Lines(chosen_items(explorer, most))
    draft, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(draft, "w", encoding="utf-8") as stream:
            stream.write(before)
            for part, content in Parts(explorer, lines, progress or _silent).all():
                stream.write(_packed(part, content))
            stream.write(after)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return lines.pages


def _packed(part: str, content: Any) -> str:
    """Return a part as a script tag. Base64 holds no character that could end the tag."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    packed = base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
    return f'<script type="application/json" id="data-{part}">{packed}</script>\n'


def _silent(done: int, total: int) -> None:
    pass
