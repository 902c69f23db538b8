"""What a Spark task does with the rows of a view; runs on executors and imports no Feast."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator

import pyarrow as pa

_PROGRESS_SECONDS = 10.0
_log = logging.getLogger(__name__)


def write_rows(
    batches: Iterator[pa.RecordBatch], *, target, name: str, rows_per_write: int
) -> Iterator[pa.RecordBatch]:
    """Writes a task's batches in chunks over one connection; runs on executors.

    Args:
        batches: What Spark hands a task, some thousand rows at a time.
        target: What opens the writer.
        name: The view, for the log.
        rows_per_write: The largest chunk.

    Yields:
        One batch with the number of rows written.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    writer, written, spoken = None, 0, time.monotonic()
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, rows_per_write):
                writer = writer or target.open()
                written += writer.write(batch.slice(start, rows_per_write))
                if time.monotonic() - spoken > _PROGRESS_SECONDS:
                    spoken = time.monotonic()
                    _log.info("%s: a task has written %s rows so far", name, f"{written:,}")
    finally:
        if writer is not None:
            writer.close()
    yield pa.RecordBatch.from_pydict({"rows": [written]}, pa.schema([("rows", pa.int64())]))
