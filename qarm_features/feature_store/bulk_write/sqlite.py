"""Writes encoded rows to a SQLite file in Feast's layout: a row per entity key and feature.

Each chunk is one short transaction; executors that write the same file take turns.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from qarm_features.feature_store.bulk_write.back_off import try_again
from qarm_features.feature_store.bulk_write.encoded_rows import OnlineView, encode_rows

_BUSY_SECONDS = 5.0
_PASSING = ("database is locked", "database table is locked", "database schema is locked")
_COLUMNS = ("entity_key", "feature_name", "value", "value_text", "event_ts", "created_ts")


@dataclass(frozen=True)
class SqliteTarget:
    """Where and how to write; travels to executors.

    Attributes:
        view: The view.
        path: The file.
        patience: Seconds for which a locked file is tried again.
    """

    view: OnlineView
    path: str
    patience: float

    def open(self) -> SqliteWriter:
        """Opens the file."""
        return SqliteWriter(self)


class SqliteWriter:
    """Writes chunks over one connection.

    Source: feast/infra/online_stores/sqlite.py, ``online_write_batch``.
    """

    def __init__(self, target: SqliteTarget):
        self._target = target
        self._database = sqlite3.connect(target.path, timeout=_BUSY_SECONDS)
        table = f"{target.view.project}_{target.view.name}".replace('"', '""')
        updates = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[2:])
        self._upsert = (
            f'INSERT INTO "{table}" ({", ".join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?) '
            f"ON CONFLICT(entity_key, feature_name) DO UPDATE SET {updates}"
        )

    def write(self, batch: pa.RecordBatch) -> int:
        """Writes a chunk, and returns how many rows were written: all of them."""
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
            lost=lambda error: isinstance(error, sqlite3.OperationalError) and str(error).startswith(_PASSING),
            patience=self._target.patience,
            store=self._target.path,
        )
        return len(keys)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def _insert(self, cells: list[tuple]) -> None:
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(self._upsert, cells)


def _feast_time(microseconds: int | None) -> int | None:
    """Returns the number that Feast's adapter stores: it takes the time in UTC for a local time of this machine."""
    if microseconds is None:
        return None
    return int(datetime.fromtimestamp(microseconds / 1_000_000, UTC).replace(tzinfo=None).timestamp())
