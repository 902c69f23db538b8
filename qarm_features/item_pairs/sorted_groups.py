"""Groups of rows are read from sorted Arrow batches, without the cost of one Arrow stream per group.

In: the batches of a partition that is sorted by a key. Out: batches in which no group is cut.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def whole_groups(batches: Iterator[pa.RecordBatch], key: str) -> Iterator[pa.RecordBatch]:
    """Move the cuts between batches so that no group is cut.

    Args:
        batches: Batches in which rows of the same key follow each other.
        key: Name of the column that defines the groups.

    Yields:
        The same rows in the same order. A batch has at most the rows of one incoming batch and of one group.
    """
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows == 0:
            continue
        last = batch[key][-1]
        start = pc.index(batch[key], last).as_py()
        if start > 0:
            yield pa.concat_batches([*held, batch.slice(0, start)])
            held = [batch.slice(start)]
        elif held and held[0][key][0] != last:
            yield pa.concat_batches(held)
            held = [batch]
        else:
            held.append(batch)
    if held:
        yield pa.concat_batches(held)


def group_offsets(keys: pa.Array) -> np.ndarray:
    """Return the first row of each group, and the number of rows as the last entry.

    Args:
        keys: (B,) keys, equal ones next to each other.

    Returns:
        (groups + 1,) int64.

    Example:
        >>> group_offsets(pa.array([7, 7, 9])).tolist()
        [0, 2, 3]
    """
    ends = pc.run_end_encode(keys).run_ends.to_numpy()
    return np.concatenate([[0], ends]).astype(np.int64)


def packed(offsets: np.ndarray, values: np.ndarray) -> pa.Array:
    """Return one binary value per group with the bytes of its values. Spark moves binary values faster than arrays.

    Args:
        offsets: (groups + 1,) integers, the first value of each group.
        values: Values of all groups, joined.
    """
    values = np.ascontiguousarray(values)
    in_bytes = (offsets * values.itemsize).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, pa.py_buffer(in_bytes), pa.py_buffer(values)])


def unpacked(column: pa.Array, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets (B + 1,) and the joined values of a binary column from ``packed``.

    Args:
        column: (B,) binary values.
        dtype: Type of the values.
    """
    _, offsets, data = column.buffers()
    in_bytes = np.frombuffer(offsets, np.int32, count=len(column) + 1, offset=4 * column.offset)
    values: np.ndarray = np.frombuffer(data, np.uint8)[in_bytes[0] : in_bytes[-1]].view(dtype)
    return (in_bytes - in_bytes[0]) // np.dtype(dtype).itemsize, values
