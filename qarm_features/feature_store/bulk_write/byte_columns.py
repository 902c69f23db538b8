"""Columns of byte strings, built without a Python object per row: numpy for varints, Arrow's kernels for joins.

In: numpy and Arrow arrays of B rows. Out: ``pa.LargeBinaryArray`` of B rows; their data lies in one buffer, row after row.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BYTES = pa.large_binary()


def byte_column(data: np.ndarray, ends: np.ndarray) -> pa.LargeBinaryArray:
    """Returns the column whose row b is ``data[ends[b - 1]:ends[b]]``.

    Args:
        data: (N,) uint8.
        ends: (B,) int64, never falling, the last at most N.
    """
    offsets = np.concatenate([[0], ends]).astype(np.int64, copy=False)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.LargeBinaryArray.from_buffers(_BYTES, len(ends), buffers)


def varints(values: np.ndarray) -> pa.LargeBinaryArray:
    """Encodes integers as protobuf does: seven bits a byte, the lowest first, the top bit set where more follow.

    Args:
        values: (B,) of any integer type; negative ones take ten bytes, as int32 and int64 do.

    Source: protobuf's encoding guide, "Base 128 Varints".
    """
    values = values.astype(np.int64, copy=False).view(np.uint64)
    sizes = np.ones(len(values), dtype=np.int64)
    for length in range(1, 10):
        longer = values >= np.uint64(1 << 7 * length)
        if not longer.any():
            break
        sizes += longer
    ends = np.cumsum(sizes)
    starts = ends - sizes
    data = np.empty(int(sizes.sum()), dtype=np.uint8)
    rows, shift = slice(None), 0
    while shift == 0 or len(rows):
        more = sizes[rows] > shift + 1
        seven = (values[rows] >> np.uint64(7 * shift)) & np.uint64(0x7F)
        data[starts[rows] + shift] = seven.astype(np.uint8) | (more.astype(np.uint8) << 7)
        rows = np.flatnonzero(more) if shift == 0 else rows[more]
        shift += 1
    return byte_column(data, ends)


def fixed_width(values: np.ndarray) -> pa.LargeBinaryArray:
    """Returns the little-endian bytes of each of (B,) numbers."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return byte_column(little.view(np.uint8), np.arange(1, len(values) + 1, dtype=np.int64) * values.dtype.itemsize)


def joined(*pieces: bytes | pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Joins columns row by row; a piece of plain bytes is the same in every row, a null makes the row null."""
    arrow = [pa.scalar(p, _BYTES) if isinstance(p, bytes) else p for p in pieces]
    return pc.binary_join_element_wise(*arrow, pa.scalar(b"", _BYTES))


def byte_sizes(column: pa.LargeBinaryArray) -> np.ndarray:
    """Returns the (B,) int64 sizes of rows in bytes; 0 where null."""
    return pc.fill_null(pc.binary_length(column), 0).to_numpy()


def delimited(column: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Puts each row's size before it, as a varint."""
    return joined(varints(byte_sizes(column)), column)


def grouped(column: pa.LargeBinaryArray, ends: np.ndarray) -> pa.LargeBinaryArray:
    """Joins neighboring rows: row g of the result is rows ``ends[g - 1]`` to ``ends[g]`` of the column.

    Args:
        column: (N,) without nulls.
        ends: (G,) int64, never falling, the last N.
    """
    data, offsets = contents(column)
    return byte_column(data, offsets[ends])


def contents(column: pa.LargeBinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a column's bytes (N,) uint8 and the (B + 1,) int64 offsets of its rows in them; nothing is copied."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    whole = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.empty(0, dtype=np.uint8)
    return whole, bounds


def as_bytes(column: pa.Array) -> pa.LargeBinaryArray:
    """Returns a column of strings or binaries as bytes (UTF-8)."""
    return column.cast(pa.large_string()).cast(_BYTES) if pa.types.is_string(column.type) else column.cast(_BYTES)
