"""Small JSON files that a reader sees whole or not at all, and the hashes of files and of values.

In: a path on this machine or in an object store, and values that JSON can hold. Out: the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from qarm_features.storage.objects import AnyPath, ObjectPath


def write_json(path: AnyPath, content: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    if isinstance(path, ObjectPath):
        path.write_text(as_json(content))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with open(draft, "w") as file:
        file.write(as_json(content))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def as_json(content: dict[str, Any]) -> str:
    """Return the text that ``write_json`` writes."""
    return json.dumps(content, indent=2, sort_keys=True)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(content: Any) -> str:
    """Return a short hash of any JSON-like value, the same for the same content.

    Example:
        >>> fingerprint({"seed": 0, "levels": 3}) == fingerprint({"levels": 3, "seed": 0})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
