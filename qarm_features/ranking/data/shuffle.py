"""Rows in a seeded shuffled order that can be entered at any row without reading what came before.

In: a reader of rows from any position on. Out: batches of Arrow rows. The order is drawn over positions alone: a buffer of
shuffle_rows rows is filled, permuted, gives out half of itself, and is filled again. To enter at row n the draws up to n are
repeated, in whole numbers, and only rows that the buffer holds at n are read again.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

ReadFrom = Callable[[int], Iterator[pa.RecordBatch]]


class Round(NamedTuple):
    """One filling of the buffer."""

    kept: np.ndarray  # positions of the rows that the last round left, in their order in the buffer
    first: int  # position of the first row read now
    fill: int  # rows read now
    order: np.ndarray  # permutation of kept and new rows
    out: int  # how many are given out, the first of the order


class RowCutter:
    """Cuts a stream of record batches into pieces of the sizes asked for."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self.batches, self.rest = batches, None

    def take(self, num_rows: int) -> list[pa.RecordBatch]:
        """Returns the next num_rows rows, fewer at the end of the stream, in one or more pieces."""
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
    """Draws the order of num_rows rows; together the rounds give out every position once."""
    kept, first = np.zeros(0, np.int64), 0
    while first < num_rows:
        fill = min(shuffle_rows - len(kept), num_rows - first)
        waiting = np.concatenate([kept, np.arange(first, first + fill)])
        order = generator.permutation(len(waiting))
        out = len(waiting) if first + fill == num_rows else (shuffle_rows + 1) // 2
        yield Round(kept, first, fill, order, out)
        kept, first = waiting[order[out:]], first + fill


def batches_in_order(read: ReadFrom, batch_size: int, *, start: int) -> Iterator[pa.RecordBatch]:
    """Yields batches of batch_size rows from row start on, the last one perhaps smaller."""
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
    """Yields batches of batch_size rows from row start of the shuffled order on, the last one perhaps smaller.

    Args:
        read: gives the rows from a position on.
        batch_size: B.
        start: rows of the order that are skipped.
        num_rows: of all that read can give.
        shuffle_rows: size of the buffer, at least 1.
        generator: of the permutations.
    """
    skip, held, cutter = start, None, None
    rest: list[pa.RecordBatch] = []  # of a batch that two rounds share
    for drawn in rounds(num_rows, shuffle_rows, generator):
        if skip >= drawn.out:
            skip -= drawn.out
            continue
        if cutter is None:
            held, cutter = rows_at(read, drawn.kept), RowCutter(read(drawn.first))
        waiting = pa.concat_batches(held + cutter.take(drawn.fill))
        at = skip
        while at < drawn.out:
            until = min(at + batch_size - sum(piece.num_rows for piece in rest), drawn.out)
            rest.append(waiting.take(pa.array(drawn.order[at:until])))
            if sum(piece.num_rows for piece in rest) == batch_size:
                yield pa.concat_batches(rest)
                rest = []
            at = until
        held, skip = [waiting.take(pa.array(drawn.order[drawn.out :]))], 0
    if rest:
        yield pa.concat_batches(rest)


def rows_at(read: ReadFrom, positions: np.ndarray) -> list[pa.RecordBatch]:
    """Reads the rows at positions, (P,) int64, distinct, in any order; returns none or one batch of P rows."""
    if len(positions) == 0:
        return []
    ascending, found = np.sort(positions), []
    at = first = int(ascending[0])
    for batch in read(first):
        low, high = np.searchsorted(ascending, [at, at + batch.num_rows])
        if low < high:
            found.append(batch.take(pa.array(ascending[low:high] - at)))
        at += batch.num_rows
        if at > ascending[-1]:
            break
    return [pa.concat_batches(found).take(pa.array(np.searchsorted(ascending, positions)))]
