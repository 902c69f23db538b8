"""Shards of Parquet files for processes that read together.

In: Parquet files. Out: one process's share of their rows, as a stream of Arrow record batches. The rows of all row groups
are laid end to end and cut into equal ranges, one per shard. Shards are disjoint, together hold every row, and differ by one
row at most, whatever the files look like. A shard reads only the row groups that its range touches.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

READ_ROWS = 8192  # rows decoded at a time


class RowGroup(NamedTuple):
    """One row group of a Parquet file: its place and its number of rows."""

    file: str
    number: int
    num_rows: int


def open_parquet(file: str) -> pq.ParquetFile:
    """Opens a Parquet file.

    Args:
        file: Local path or pyarrow-fs URI (``file://``, ``s3://``, ``gs://``, ``hdfs://``, ...); ``s3a://``, as Spark names
            S3, is ``s3://``.
    """
    file = str(file)
    if "://" not in file:
        return pq.ParquetFile(file)
    filesystem, path = fs.FileSystem.from_uri(f"s3{file[3:]}" if file.startswith("s3a://") else file)
    return pq.ParquetFile(path, filesystem=filesystem)


class Footers(NamedTuple):
    """Row groups and columns of some files, as their footers list them."""

    row_groups: list[RowGroup]
    columns_of_file: dict[str, frozenset[str]]

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that every file has."""
        return frozenset.intersection(*self.columns_of_file.values())

    def require(self, columns: Sequence[str]) -> None:
        """Checks that the files have some columns.

        Args:
            columns: Names of the columns.

        Raises:
            ValueError: If a file lacks a column.
        """
        for file, found in self.columns_of_file.items():
            missing = sorted(set(columns) - found)
            if missing:
                raise ValueError(
                    f"{file} has no column {', '.join(missing)}, but {', '.join(columns)} are read. "
                    "Run: qarm build-training-set"
                )


def read_footers(files: Sequence[str]) -> Footers:
    """Reads the footers of files without their rows.

    Args:
        files: Paths or pyarrow-fs URIs of Parquet files.
    """
    row_groups, columns_of_file = [], {}
    for file in map(str, files):
        with open_parquet(file) as parquet:
            columns_of_file[file] = frozenset(parquet.schema_arrow.names)
            metadata = parquet.metadata
            row_groups += [RowGroup(file, n, metadata.row_group(n).num_rows) for n in range(metadata.num_row_groups)]
    return Footers(row_groups, columns_of_file)


def list_row_groups(files: Sequence[str], columns: Sequence[str]) -> list[RowGroup]:
    """Reads the footers of files and checks that they have some columns.

    Args:
        files: Paths or pyarrow-fs URIs of Parquet files.
        columns: Names of the columns.

    Raises:
        ValueError: If a file lacks a column.
    """
    footers = read_footers(files)
    footers.require(columns)
    return footers.row_groups


def shard_range(row_groups: Sequence[RowGroup], *, shard: int, num_shards: int) -> tuple[int, int]:
    """Returns the first row of a shard and the first row after it, counted over all row groups.

    Args:
        row_groups: All row groups, in the same order in every process.
        shard: Number of the shard, in [0, num_shards).
        num_shards: Number of shards, at least 1.
    """
    total = sum(group.num_rows for group in row_groups)
    return total * shard // num_shards, total * (shard + 1) // num_shards


def read_shard(
    row_groups: Sequence[RowGroup], columns: Sequence[str], *, shard: int, num_shards: int, start: int = 0
) -> Iterator[pa.RecordBatch]:
    """Streams the rows of one shard.

    Args:
        row_groups: All row groups, in the same order in every process.
        columns: Names of the columns to read.
        shard: Number of the shard, in [0, num_shards).
        num_shards: Number of processes that read, at least 1.
        start: Number of rows of the shard that are skipped; row groups before them are not opened.

    Yields:
        Record batches of at most READ_ROWS rows, never empty.
    """
    ends = np.cumsum([group.num_rows for group in row_groups], dtype=np.int64)
    begin, end = shard_range(row_groups, shard=shard, num_shards=num_shards)
    begin += start
    for group, group_end in zip(row_groups, ends.tolist()):
        first = group_end - group.num_rows
        if first < end and group_end > begin and begin < end:
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
