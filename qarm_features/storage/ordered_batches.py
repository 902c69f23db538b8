"""A DataFrame streams to the driver in the order of a key, in memory that does not grow with it.

In: rows. Out: Arrow batches whose concatenation is the same whatever the partitions and the order of the rows were.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame

ROWS_PER_PARTITION = 500_000  # the driver holds two partitions at most: the one it reads and the next


def ordered_batches(
    rows: DataFrame, *, by: str, count: int, rows_per_partition: int = ROWS_PER_PARTITION
) -> Iterator[pa.RecordBatch]:
    """Sorts on the executors and fetches one partition after another.

    Args:
        rows: Columns of any type.
        by: Column of distinct values without null; strings are ordered by their UTF-8 bytes.
        count: About how many rows there are.
        rows_per_partition: About how many the driver holds at once, twice.
    """
    partitions = -(-count // rows_per_partition) or 1
    ordered = rows.repartitionByRange(partitions, by).sortWithinPartitions(by)  # by number: AQE must not merge them
    for row in ordered.mapInArrow(_as_ipc, "batch binary").toLocalIterator(prefetchPartitions=True):
        with pa.ipc.open_stream(row["batch"]) as stream:
            yield from stream


def _as_ipc(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Serializes each batch into one value: a driver takes these a hundred times faster than it does rows."""
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        yield pa.RecordBatch.from_pydict({"batch": [sink.getvalue().to_pybytes()]})
