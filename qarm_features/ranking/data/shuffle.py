"""A seeded shuffled order of rows that can be entered at any row without reading the rows before it.

In: a reader of rows from any position on. Out: batches of Arrow rows. The order is drawn over positions alone: a buffer of
shuffle_rows rows is filled and permuted, half of its rows are yielded, and it is filled again. To enter the order at row n,
the draws up to n are repeated, and only rows that the buffer holds at n are read again.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

ReadFrom = Callable[[int], Iterator[pa.RecordBatch]]


class Round(NamedTuple):
    """One filling of the buffer."""

    kept: np.ndarray  # (P,) positions of the rows that the last round left in the buffer, in their order
    first: int  # position of the first row that is read in this round
    fill: int  # number of rows that are read in this round
    order: np.ndarray  # permutation of kept and new rows
    out: int  # number of rows that are yielded, from the start of the order


class RowCutter:
    """Cuts a stream of record batches into pieces of given sizes."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self.batches, self.rest = batches, None

    def take(self, num_rows: int) -> list[pa.RecordBatch]:
        """Returns the next rows in one or more pieces; fewer rows at the end of the stream.

        Args:
            num_rows: Number of rows to take, at least 0.
        """
        pieces = []
        while num_rows > 0:
            batch = self.rest if self.rest is not None else next(self.batches, None)
            if batch is None:
                break
            pieces.append(batch.slice(0, num_rows))
            self.rest = batch.slice(num_rows) if batch.num_rows > num_rows else None
            num_rows -= pieces[-1].num_rows
        return pieces


def rounds(num_rows: int, shuffle_rows: int, generator: np.random.Generator) -> Iterator[Round]:
    """Draws the order of rows; together the rounds yield every position once.

    Args:
        num_rows: Number of all rows, at least 0.
        shuffle_rows: Size of the buffer, at least 1.
        generator: Random generator of the permutations.
    """
    kept, first = np.zeros(0, np.int64), 0
    while first < num_rows:
        fill = min(shuffle_rows - len(kept), num_rows - first)
        waiting = np.concatenate([kept, np.arange(first, first + fill)])
        order = generator.permutation(len(waiting))
        out = len(waiting) if first + fill == num_rows else (shuffle_rows + 1) // 2
        yield Round(kept, first, fill, order, out)
        kept, first = waiting[order[out:]], first + fill


def batches_in_order(read: ReadFrom, batch_size: int, *, start: int) -> Iterator[pa.RecordBatch]:
    """Yields batches of rows in their order; the last one may be smaller.

    Args:
        read: Function that reads the rows from a position on.
        batch_size: B, at least 1.
        start: Number of rows that are skipped.
    """
    cutter = RowCutter(read(start))
    while pieces := cutter.take(batch_size):
        yield pa.concat_batches(pieces)


def shuffled_batches(
    read: ReadFrom,
    batch_size: int,
    *,
    start: int,
    num_rows: int,
    shuffle_rows: int,
    generator: np.random.Generator,
) -> Iterator[pa.RecordBatch]:
    """Yields batches of rows in a shuffled order; the last one may be smaller.

    Args:
        read: Function that reads the rows from a position on.
        batch_size: B, at least 1.
        start: Number of rows of the order that are skipped.
        num_rows: Number of all rows that ``read`` can read.
        shuffle_rows: Size of the buffer, at least 1.
        generator: Random generator of the permutations.
    """
    skip, cutter = start, None
    held: list[pa.RecordBatch] = []
    rest: list[pa.RecordBatch] = []  # first rows of a batch that goes on in the next round
    for drawn in rounds(num_rows, shuffle_rows, generator):
        if skip >= drawn.out:
            skip -= drawn.out
            continue
        if cutter is None:
            held, cutter = rows_at(read, drawn.kept), RowCutter(read(drawn.first))
        waiting = pa.concat_batches(held + cutter.take(drawn.fill))
        position = skip
        while position < drawn.out:
            until = min(position + batch_size - sum(piece.num_rows for piece in rest), drawn.out)
            rest.append(waiting.take(pa.array(drawn.order[position:until])))
            if sum(piece.num_rows for piece in rest) == batch_size:
                yield pa.concat_batches(rest)
                rest = []
            position = until
        held, skip = [waiting.take(pa.array(drawn.order[drawn.out :]))], 0
    if rest:
        yield pa.concat_batches(rest)


def rows_at(read: ReadFrom, positions: np.ndarray) -> list[pa.RecordBatch]:
    """Reads rows at given positions and returns them as one batch, or no batch without positions.

    Args:
        read: Function that reads the rows from a position on.
        positions: (P,) int64 distinct positions in any order.
    """
    if len(positions) == 0:
        return []
    ascending, found = np.sort(positions), []
    position = int(ascending[0])
    for batch in read(position):
        low, high = np.searchsorted(ascending, [position, position + batch.num_rows])
        if low < high:
            found.append(batch.take(pa.array(ascending[low:high] - position)))
        position += batch.num_rows
        if position > ascending[-1]:
            break
    return [pa.concat_batches(found).take(pa.array(np.searchsorted(ascending, positions)))]
