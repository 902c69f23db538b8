"""Files of exported semantic IDs, written batch by batch.

In: item IDs (B,) and codes (B, W) int32, in batches and in ascending order of the IDs. Out: files whose bytes do not
depend on the size of the batches. The memory in use is that of one batch.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Batches = Iterable[tuple[pa.Array, np.ndarray]]
_ROW_GROUP = 65_536


def code_tokens(sizes: Sequence[int]) -> list[list[str]]:
    """Return the tokens of each place of an item: ``<a_0>``, ``<a_1>`` and so on for the first, ``<b_0>`` for the second.

    Args:
        sizes: Number of tokens of each place; at most 26 places.

    Example:
        >>> code_tokens([2, 1])
        [['<a_0>', '<a_1>'], ['<b_0>']]
    """
    return [[f"<{chr(ord('a') + place)}_{code}>" for code in range(size)] for place, size in enumerate(sizes)]


def write_index_json(batches: Batches, file: Path, tokens: Sequence[Sequence[str]]) -> int:
    """Write the same bytes as ``json.dump`` of ``{item ID: tokens}``.

    Args:
        batches: Item IDs (B,), integers or strings, and codes (B, W).
        file: Path of the file to write.
        tokens: Tokens of each of the W places.

    Returns:
        Number of items.
    """
    quoted = [pa.array([json.dumps(token) for token in place_tokens]) for place_tokens in tokens]
    items = 0
    with open(file, "w", encoding="ascii") as out:
        out.write("{")
        for ids, codes in batches:
            if not len(ids):
                continue
            columns = [place_tokens.take(pa.array(codes[:, place])) for place, place_tokens in enumerate(quoted)]
            keys = pa.array([json.dumps(str(item_id)) for item_id in ids.to_pylist()], pa.string())
            lists = pc.binary_join_element_wise(*columns, ", ")
            entries = pc.binary_join_element_wise(keys, ": [", lists, "]", "")
            if items:
                out.write(", ")
            out.write(", ".join(entries.to_pylist()))
            items += len(ids)
        out.write("}")
    return items


def write_npy(batches: Batches, folder: Path, *, rows: int, width: int, string_ids: bool) -> int:
    """Write ``codes.npy`` (N, W) int32 and ``item_ids.npy`` (N,) int64, or strings as ``item_ids.parquet``.

    Args:
        batches: Item IDs (B,) and codes (B, W).
        folder: Existing folder to write to.
        rows: Number of items N, which the headers of the files contain.
        width: Number of codes W of an item.
        string_ids: True if IDs are strings, for which Parquet is used because NumPy would pad each to the longest.

    Returns:
        Number of written items. If it is not N, the files are broken.
    """
    items = 0
    with open(folder / "codes.npy", "wb") as out, _ids_file(folder, rows, string_ids) as write_ids:
        _write_header(out, "<i4", (rows, width))
        for ids, codes in batches:
            out.write(codes.astype("<i4").tobytes())
            write_ids(ids)
            items += len(ids)
    return items


@contextlib.contextmanager
def _ids_file(folder: Path, rows: int, string_ids: bool) -> Iterator[Callable[[pa.Array], None]]:
    """Open the file of item IDs and yield a function that appends IDs (B,)."""
    if not string_ids:
        with open(folder / "item_ids.npy", "wb") as out:
            _write_header(out, "<i8", (rows,))

            def write_integers(ids: pa.Array) -> None:
                out.write(ids.to_numpy().astype("<i8").tobytes())

            yield write_integers
        return
    waiting = pa.array([], pa.string())
    with pq.ParquetWriter(folder / "item_ids.parquet", pa.schema([("item_id", pa.string())])) as writer:

        def write_strings(ids: pa.Array) -> None:
            nonlocal waiting
            waiting = pa.concat_arrays([waiting, ids.cast(pa.string())])
            while len(waiting) >= _ROW_GROUP:  # all row groups have one size, for batches of any size
                writer.write_table(pa.table({"item_id": waiting[:_ROW_GROUP]}))
                waiting = waiting[_ROW_GROUP:]

        yield write_strings
        if len(waiting):
            writer.write_table(pa.table({"item_id": waiting}))


def _write_header(out: IO[bytes], dtype: str, shape: tuple[int, ...]) -> None:
    """Write the header of an npy file."""
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
