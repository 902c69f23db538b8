"""The bytes of exported semantic IDs, written as they stream.

In: item IDs (B,) and codes (B, W) int32, batch after batch in ascending order of the IDs. Out: files that do not depend on
where one batch ends. Memory is that of a batch.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Batches = Iterable[tuple[pa.Array, np.ndarray]]
_ROW_GROUP = 65_536


def code_tokens(sizes: Sequence[int]) -> list[list[str]]:
    """Returns the tokens of every place of an item: ``<a_0>`` .. of the first place, ``<b_0>`` .. of the second.

    Args:
        sizes: Number of tokens of each place, at most 26 of them.
    """
    return [[f"<{chr(ord('a') + place)}_{code}>" for code in range(size)] for place, size in enumerate(sizes)]


def write_index_json(batches: Batches, file: Path, tokens: Sequence[Sequence[str]]) -> int:
    """Writes what ``json.dump`` writes of ``{item ID: tokens}``, and returns the number of items.

    Args:
        batches: IDs (B,) integers or strings, codes (B, W).
        file: Where to.
        tokens: Of each of the W places.
    """
    quoted = [pa.array([json.dumps(token) for token in of_place]) for of_place in tokens]
    items = 0
    with open(file, "w", encoding="ascii") as out:
        out.write("{")
        for ids, codes in batches:
            if not len(ids):
                continue
            columns = [of_place.take(pa.array(codes[:, place])) for place, of_place in enumerate(quoted)]
            keys = pa.array([json.dumps(str(item_id)) for item_id in ids.to_pylist()], pa.string())
            lists = pc.binary_join_element_wise(*columns, ", ")
            entries = pc.binary_join_element_wise(keys, ": [", lists, "]", "")
            out.write(", " * (items > 0) + ", ".join(entries.to_pylist()))
            items += len(ids)
        out.write("}")
    return items


def write_npy(batches: Batches, folder: Path, *, rows: int, width: int, string_ids: bool) -> int:
    """Writes ``codes.npy`` (N, W) int32 and ``item_ids.npy`` (N,) int64, or strings as ``item_ids.parquet``.

    Args:
        batches: IDs (B,) and codes (B, W).
        folder: Where to.
        rows: N, which stands before the rows.
        width: W.
        string_ids: IDs are strings: NumPy would pad each to the longest.

    Returns:
        The number of items; the files are sound where it is N.
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
    if not string_ids:
        with open(folder / "item_ids.npy", "wb") as out:
            _write_header(out, "<i8", (rows,))
            yield lambda ids: out.write(ids.to_numpy().astype("<i8").tobytes())
        return
    held = pa.array([], pa.string())
    with pq.ParquetWriter(folder / "item_ids.parquet", pa.schema([("item_id", pa.string())])) as writer:

        def write(ids: pa.Array) -> None:
            nonlocal held
            held = pa.concat_arrays([held, ids.cast(pa.string())])
            while len(held) >= _ROW_GROUP:  # row groups of one size, whatever the batches
                writer.write_table(pa.table({"item_id": held[:_ROW_GROUP]}))
                held = held[_ROW_GROUP:]

        yield write
        if len(held):
            writer.write_table(pa.table({"item_id": held}))


def _write_header(out, dtype: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
