"""Parquet files in, this process's share of their rows out, as a stream of Arrow record batches.

The rows of all row groups are laid end to end and cut into equal ranges, one per shard, so shards differ by one row
at most whatever the files look like, are disjoint, and together hold every row. A shard reads only the row groups its
range touches.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

READ_ROWS = 8192  # rows decoded at a time


class RowGroup(NamedTuple):
    """One row group of a Parquet file: where it is and how many rows it holds."""

    file: str
    number: int
    num_rows: int


def open_parquet(file: str) -> pq.ParquetFile:
    """Opens a local path or any pyarrow-fs URI (``file://``, ``s3://``, ``gs://``, ``hdfs://``, ...)."""
    file = str(file)
    if "://" not in file:
        return pq.ParquetFile(file)
    filesystem, path = fs.FileSystem.from_uri(file)
    return pq.ParquetFile(path, filesystem=filesystem)


def list_row_groups(files: Sequence[str], columns: Sequence[str]) -> list[RowGroup]:
    """Reads the files' footers and checks that they have the columns.

    Raises:
        ValueError: if a file lacks a column.
    """
    row_groups = []
    for file in files:
        with open_parquet(file) as parquet:
            missing = sorted(set(columns) - set(parquet.schema_arrow.names))
            if missing:
                raise ValueError(
                    f"{file} has no column {', '.join(missing)}, must have {', '.join(columns)}. "
                    "Run: qarm build-training-set"
                )
            metadata = parquet.metadata
            row_groups += [
                RowGroup(str(file), n, metadata.row_group(n).num_rows) for n in range(metadata.num_row_groups)
            ]
    return row_groups


def read_shard(
    row_groups: Sequence[RowGroup], columns: Sequence[str], *, shard: int, num_shards: int
) -> Iterator[pa.RecordBatch]:
    """Streams the rows of one shard.

    Args:
        row_groups: all row groups, in the same order in every process.
        columns: names of the columns to read.
        shard: which share, in [0, num_shards).
        num_shards: number of processes that read.

    Yields:
        Record batches of at most READ_ROWS rows, never empty.
    """
    ends = np.cumsum([group.num_rows for group in row_groups], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    begin, end = total * shard // num_shards, total * (shard + 1) // num_shards
    for group, group_end in zip(row_groups, ends.tolist()):
        first = group_end - group.num_rows
        if first < end and group_end > begin:
            yield from _read_range(group, columns, max(begin - first, 0), min(end - first, group.num_rows))


def _read_range(group: RowGroup, columns: Sequence[str], begin: int, end: int) -> Iterator[pa.RecordBatch]:
    first = 0  # row of the row group at which the record batch starts
    with open_parquet(group.file) as parquet:
        for rows in parquet.iter_batches(READ_ROWS, row_groups=[group.number], columns=list(columns)):
            low, high = max(begin - first, 0), min(end - first, rows.num_rows)
            if low < high:
                yield rows.slice(low, high - low)
            first += rows.num_rows
            if first >= end:
                return
