"""Groups of rows in sorted Arrow batches, without the cost of one Arrow stream per group.

In: the batches of a partition that is sorted by a key. Out: batches that hold every group as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def whole_groups(batches: Iterator[pa.RecordBatch], key: str) -> Iterator[pa.RecordBatch]:
    """Moves the cuts between batches so that no group of ``key`` is cut.

    Args:
        batches: Rows of equal key stand together.
        key: A column.

    Yields:
        The same rows in the same order. A batch holds at most one incoming batch and one group more.
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
    """Returns where the groups of ``keys`` (B) begin, and B as the last entry: (groups + 1,) int64."""
    ends = pc.run_end_encode(keys).run_ends.to_numpy()
    return np.concatenate([[0], ends]).astype(np.int64)


def packed(offsets: np.ndarray, values: np.ndarray) -> pa.Array:
    """Returns one binary value per group: the bytes of its ``values``, which Spark moves faster than an array."""
    values = np.ascontiguousarray(values)
    in_bytes = (offsets * values.itemsize).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, pa.py_buffer(in_bytes), pa.py_buffer(values)])


def unpacked(column: pa.Array, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Returns offsets (B + 1,) and the joined values of a binary column that ``packed`` made."""
    _, offsets, data = column.buffers()
    in_bytes = np.frombuffer(offsets, np.int32, count=len(column) + 1, offset=4 * column.offset)
    values = np.frombuffer(data, np.uint8)[in_bytes[0] : in_bytes[-1]].view(dtype)
    return (in_bytes - in_bytes[0]) // np.dtype(dtype).itemsize, values
