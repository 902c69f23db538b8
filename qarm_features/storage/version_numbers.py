"""The numbers of versions: one that was given once is never given again, whatever was deleted since.

In: the folder of all artifacts, and a kind. Out: the next number, above every version that exists, that existed, or that the
manifest of another artifact or of a release names. A file ``<kind>/.numbers/<n>`` marks each number that was given, so two
processes never get the same one, and a version that somebody deletes leaves its number behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MARKS = ".numbers"
# Entries of manifests, and of the records of releases, that name a version of a kind.
NAMED_BY = {
    "encoders": ("encoder_version", "base_encoder_version"),
    "codebooks": ("codebook_version",),
    "banks": ("bank_version",),
    "item_content": ("item_content_version",),
    "item_features": ("item_features_version",),
    "ranking_models": ("ranking_model_version",),
}
_MANIFESTS = ("*/v*/manifest.json", "releases/*.json", "releases/vectors/*.json")


def reserve_number(folder: Path, *, at_least: int) -> int:
    """Reserve the next number of a kind of artifact.

    Args:
        folder: Folder of the kind.
        at_least: Smallest number to give, for example because a table holds rows of all smaller ones.
    """
    marks = folder / _MARKS
    marks.mkdir(parents=True, exist_ok=True)
    given = (path.name for path in marks.iterdir())
    present = (path.name[1:] for path in folder.glob("v*"))
    numbers = [int(name) for name in (*given, *present) if name.isdigit()]
    number = max([at_least, *(1 + one for one in [*numbers, _largest_named(folder.parent, folder.name)])])
    while True:
        try:
            (marks / str(number)).open("x").close()
            return number
        except FileExistsError:  # another process was faster
            number += 1


def _largest_named(root: Path, kind: str) -> int:
    """Return the largest version of a kind that other manifests name, -1 if none does."""
    entries = NAMED_BY.get(kind, ())
    named = (content.get(entry) for content in _contents(root) for entry in entries) if entries else ()
    return max((number for number in named if isinstance(number, int)), default=-1)


def _contents(root: Path) -> Iterator[dict[str, Any]]:
    for pattern in _MANIFESTS:
        for path in root.glob(pattern):
            try:
                content = json.loads(path.read_text())
            except (OSError, ValueError):  # a damaged manifest is refused where its version is read
                continue
            if isinstance(content, dict):
                yield content
