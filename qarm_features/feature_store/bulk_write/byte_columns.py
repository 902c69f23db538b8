"""Columns of byte strings, built without a Python object per row: numpy for varints, Arrow's kernels for joins.

In: numpy and Arrow arrays of B rows. Out: ``pa.LargeBinaryArray`` of B rows, whose bytes lie in one buffer, row after row.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BYTES = pa.large_binary()


def byte_column(data: np.ndarray, ends: np.ndarray) -> pa.LargeBinaryArray:
    """Return the column whose row b is ``data[ends[b - 1]:ends[b]]``.

    Args:
        data: (N,) uint8, bytes of all rows.
        ends: (B,) int64, end of each row in ``data``: not decreasing, the last at most N.

    Example:
        >>> import numpy as np
        >>> byte_column(np.frombuffer(b"abc", np.uint8), np.array([1, 3])).to_pylist()
        [b'a', b'bc']
    """
    offsets = np.concatenate([[0], ends]).astype(np.int64, copy=False)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.LargeBinaryArray.from_buffers(_BYTES, len(ends), buffers)


def varints(values: np.ndarray) -> pa.LargeBinaryArray:
    r"""Encode integers as protobuf does: seven bits a byte, the lowest first, the top bit set where more follow.

    Args:
        values: (B,) of any integer type. A negative number takes ten bytes, as protobuf's int32 and int64 do.

    Source: protobuf's encoding guide, "Base 128 Varints".

    Example:
        >>> import numpy as np
        >>> varints(np.array([5, 300])).to_pylist()
        [b'\x05', b'\xac\x02']
    """
    unsigned = values.astype(np.int64, copy=False).view(np.uint64)
    sizes = np.ones(len(unsigned), dtype=np.int64)
    for length in range(1, 10):
        longer = unsigned >= np.uint64(1 << 7 * length)
        if not longer.any():
            break
        sizes += longer
    ends = np.cumsum(sizes)
    data = np.empty(int(sizes.sum()), dtype=np.uint8)
    _write_varints(data, ends - sizes, sizes, unsigned)
    return byte_column(data, ends)


def _write_varints(data: np.ndarray, starts: np.ndarray, sizes: np.ndarray, unsigned: np.ndarray) -> None:
    """Write (B,) uint64 numbers as varints of (B,) ``sizes`` bytes, at (B,) ``starts`` in ``data``."""
    for byte in range(int(sizes.max(initial=0))):
        if byte:  # only the numbers that have so many bytes
            longer = sizes > byte
            starts, sizes, unsigned = starts[longer], sizes[longer], unsigned[longer]
        seven_bits = (unsigned >> np.uint64(7 * byte)) & np.uint64(0x7F)
        has_more = (sizes > byte + 1).astype(np.uint8)
        data[starts + byte] = seven_bits.astype(np.uint8) | (has_more << 7)


def fixed_width(values: np.ndarray) -> pa.LargeBinaryArray:
    """Return the little-endian bytes of each of (B,) numbers."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return byte_column(little.view(np.uint8), np.arange(1, len(values) + 1, dtype=np.int64) * values.dtype.itemsize)


def joined(*pieces: bytes | pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Join columns row by row. Plain bytes stand in every row, and a null makes its row null.

    Example:
        >>> import pyarrow as pa
        >>> joined(b"a", pa.array([b"b", None], pa.large_binary())).to_pylist()
        [b'ab', None]
    """
    arrow = [pa.scalar(piece, _BYTES) if isinstance(piece, bytes) else piece for piece in pieces]
    return pc.binary_join_element_wise(*arrow, pa.scalar(b"", _BYTES))


def byte_sizes(column: pa.LargeBinaryArray) -> np.ndarray:
    """Return the sizes of the rows in bytes, (B,) int64, 0 where a row is null."""
    return pc.fill_null(pc.binary_length(column), 0).to_numpy()


def delimited(column: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Put the size of each row in front of it, as a varint."""
    return joined(varints(byte_sizes(column)), column)


def grouped(column: pa.LargeBinaryArray, ends: np.ndarray) -> pa.LargeBinaryArray:
    """Join neighboring rows: row g of the result joins the rows ``ends[g - 1]`` to ``ends[g]`` of the column.

    Args:
        column: (N,) byte strings without nulls.
        ends: (G,) int64, end of each group in rows: not decreasing, the last equal to N.
    """
    data, offsets = contents(column)
    return byte_column(data, offsets[ends])


def contents(column: pa.LargeBinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's bytes (N,) uint8 and the offsets (B + 1,) int64 of its rows in them, without a copy."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    has_bytes = data is not None and data.size
    return np.frombuffer(data, dtype=np.uint8) if has_bytes else np.empty(0, dtype=np.uint8), bounds


def as_bytes(column: pa.Array) -> pa.LargeBinaryArray:
    """Return a column of strings, in UTF-8, or of byte strings as ``pa.LargeBinaryArray``."""
    return column.cast(pa.large_string()).cast(_BYTES) if pa.types.is_string(column.type) else column.cast(_BYTES)
