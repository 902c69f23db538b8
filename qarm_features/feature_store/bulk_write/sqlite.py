"""Writes encoded rows to a SQLite file in Feast's layout, one row per entity key and feature.

In: Arrow batches of a view's latest rows. Out: rows of the view's table. Each chunk is one short transaction, so that
executors that write to the same file wait for each other only briefly.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from qarm_features.feature_store.bulk_write.back_off import try_again
from qarm_features.feature_store.bulk_write.encoded_rows import OnlineView, encode_rows

_BUSY_SECONDS = 5.0
_PASSING = ("database is locked", "database table is locked", "database schema is locked")
_COLUMNS = ("entity_key", "feature_name", "value", "value_text", "event_ts", "created_ts")


@dataclass(frozen=True)
class SqliteTarget:
    """The file to write to, which Spark sends to executors.

    Attributes:
        view: View of the rows.
        path: Path of the SQLite file.
        patience: Seconds for which a locked file is tried again.
    """

    view: OnlineView
    path: str
    patience: float

    def open(self) -> SqliteWriter:
        """Open the file."""
        return SqliteWriter(self)


def open_file(path: str) -> sqlite3.Connection:
    """Open a SQLite file and wait for a short lock of another process."""
    return sqlite3.connect(path, timeout=_BUSY_SECONDS)


def is_locked(error: Exception) -> bool:
    """Tell if an error says that another process holds the file's lock."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith(_PASSING)


class SqliteWriter:
    """Writes chunks over one connection.

    Args:
        target: The file to write to.

    Source: feast/infra/online_stores/sqlite.py, ``online_write_batch``.
    """

    def __init__(self, target: SqliteTarget) -> None:
        self._target = target
        self._database = open_file(target.path)
        table = f"{target.view.project}_{target.view.name}".replace('"', '""')
        updates = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[2:])
        self._upsert = (
            f'INSERT INTO "{table}" ({", ".join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?) '
            f"ON CONFLICT(entity_key, feature_name) DO UPDATE SET {updates}"
        )

    def write(self, batch: pa.RecordBatch) -> int:
        """Write a chunk and return the number of its rows."""
        rows = encode_rows(batch, self._target.view, with_texts=True)
        keys = rows.keys.to_pylist()
        event = [_feast_time(time) for time in rows.timestamps.tolist()]
        created = [_feast_time(time) for time in rows.created] or [None] * len(keys)
        cells = [
            cell
            for (name, _), values, texts in zip(self._target.view.features, rows.values, rows.texts)
            for cell in zip(keys, [name] * len(keys), values.to_pylist(), texts, event, created)
        ]
        try_again(
            lambda: self._insert(cells),
            lost=is_locked,
            patience=self._target.patience,
            store=self._target.path,
        )
        return len(keys)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _insert(self, cells: list[tuple[Any, ...]]) -> None:
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(self._upsert, cells)


def _feast_time(microseconds: int | None) -> int | None:
    """Return the number that Feast's adapter stores, which reads a time in UTC as a local time of this machine."""
    if microseconds is None:
        return None
    return int(datetime.fromtimestamp(microseconds / 1_000_000, UTC).replace(tzinfo=None).timestamp())
