"""The work of a Spark task on the rows of a view. It runs on executors and imports no Feast.

In: Arrow batches of a view's latest rows. Out: rows in the online store, and their number.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

_PROGRESS_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Writer(Protocol):
    """An open connection to an online store."""

    def write(self, batch: pa.RecordBatch) -> int:
        """Write a chunk and return the number of rows written."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class WriterTarget(Protocol):
    """A description of an online store, which Spark sends to executors."""

    def open(self) -> Writer:
        """Open a connection."""
        ...


def write_rows(
    batches: Iterator[pa.RecordBatch], *, target: WriterTarget, name: str, rows_per_write: int
) -> Iterator[pa.RecordBatch]:
    """Write a task's batches in chunks over one connection.

    Args:
        batches: Batches that Spark gives to a task, some thousand rows each.
        target: Target that opens the writer.
        name: Name of the view, for the log.
        rows_per_write: Rows of the largest chunk, at least 1.

    Yields:
        One batch with one row: the number of rows written.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    writer: Writer | None = None
    written, logged = 0, time.monotonic()
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, rows_per_write):
                writer = writer or target.open()
                written += writer.write(batch.slice(start, rows_per_write))
                if time.monotonic() - logged > _PROGRESS_SECONDS:
                    logged = time.monotonic()
                    _log.info("%s: a task has written %s rows so far", name, f"{written:,}")
    finally:
        if writer is not None:
            writer.close()
    yield pa.RecordBatch.from_pydict({"rows": [written]}, pa.schema([("rows", pa.int64())]))
