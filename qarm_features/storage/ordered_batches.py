"""A DataFrame is streamed to the driver in the order of a key, in memory that does not grow with its rows.

In: rows and the column to sort them by. Out: Arrow batches. Their concatenation does not depend on the partitions or the
order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame

ROWS_PER_PARTITION = 500_000  # the driver holds at most two partitions: the current one and the next


def ordered_batches(
    rows: DataFrame, *, by: str, count: int, rows_per_partition: int = ROWS_PER_PARTITION
) -> Iterator[pa.RecordBatch]:
    """Sort rows on the executors and fetch one partition after another.

    Args:
        rows: Rows with columns of any type.
        by: Name of a column of distinct values without null. Strings are ordered by their UTF-8 bytes.
        count: Approximate number of rows.
        rows_per_partition: Approximate number of rows in a partition. The driver holds up to two partitions at once.

    Yields:
        Batches of the rows, in the order of ``by``.
    """
    partitions = -(-count // rows_per_partition) or 1
    # The number of partitions is given explicitly, so that adaptive query execution does not merge them.
    ordered = rows.repartitionByRange(partitions, by).sortWithinPartitions(by)
    for row in ordered.mapInArrow(_as_ipc, "batch binary").toLocalIterator(prefetchPartitions=True):
        with pa.ipc.open_stream(row["batch"]) as stream:
            yield from stream


def _as_ipc(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Serialize each batch into one value. The driver fetches these about 100 times faster than single rows."""
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        yield pa.RecordBatch.from_pydict({"batch": [sink.getvalue().to_pybytes()]})
