"""All rows of an online store in a SQLite file, as one value that can be compared."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def online_content(folder: Path) -> dict[str, list]:
    """Returns keys, features and values of each view that the project's online store holds."""
    (file,) = folder.rglob("online_store.db")
    database = sqlite3.connect(file)
    try:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        views = sorted(name for name in names if name.startswith("qarm_") and name != "qarm_project")
        query = 'SELECT hex(entity_key), feature_name, hex(value) FROM "{}" ORDER BY 1, 2'
        return {name: database.execute(query.format(name)).fetchall() for name in views}
    finally:
        database.close()
