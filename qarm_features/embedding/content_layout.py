"""Lay out content tokens as memory-mapped files from which training reads single items.

In: rows of ``item_content_tokens`` at one Delta version. Out: the folder of an ``ItemContentStore``. Spark sorts the item IDs
only. The tokens stream from the files of Delta to their places on disk, so that memory does not grow with the catalog.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.embedding.content_tokens import Backbones
from qarm_features.ranking.data.item_content_store import (
    FIRST_ROWS,
    ITEM_IDS,
    as_ids,
    create_blocks,
    find_rows,
    write_content_json,
)
from qarm_features.storage.ordered_batches import ordered_batches
from qarm_features.storage.tables import ITEM_CONTENT_TOKENS
from qarm_features.storage.warehouse import Warehouse

_ROWS = 1024  # rows of a batch: 16 MB if an item has 16 tokens of 512 numbers


def lay_out_content(
    warehouse: Warehouse, items: DataFrame, folder: Path, *, backbones: Backbones, delta_version: int
) -> None:
    """Write the folder of an ``ItemContentStore``.

    Args:
        warehouse: Tables of the project.
        items: Rows with ``item_id``; tokens of all other items are left out.
        folder: Empty folder on the driver.
        backbones: Backbones that made the tokens.
        delta_version: Version of the Delta table ``item_content_tokens``.

    Raises:
        ValueError: No item has tokens.
    """
    rows = warehouse.read(ITEM_CONTENT_TOKENS, version=delta_version)
    rows = rows.where(F.col("backbones") == backbones.fingerprint)
    rows = rows.join(items.select("item_id"), on="item_id", how="left_semi")
    most = [F.max(F.col("num_tokens")[place]).alias(name) for place, name in enumerate(backbones.token_dims)]
    width = F.max(F.octet_length(F.col("item_id").cast("string"))).alias("width")
    found = rows.agg(F.count("*").alias("items"), width, *most).first()
    if found is None or not found["items"]:
        raise ValueError("No item has content tokens. Look at the reasons in rejected_rows.")
    has_string_ids = rows.schema["item_id"].dataType.simpleString() == "string"
    dtype = np.dtype(f"S{found['width']}" if has_string_ids else np.int64)
    ids = np.lib.format.open_memmap(folder / ITEM_IDS, "w+", dtype, (found["items"],))
    first_rows = np.lib.format.open_memmap(folder / FIRST_ROWS, "w+", np.int64, (found["items"],))
    place_ids(ordered_batches(_first_of_content(rows), by="item_id", count=found["items"]), ids, first_rows)
    ids.flush()
    first_rows.flush()
    shapes = {name: (max(1, found[name]), dim) for name, dim in backbones.token_dims.items()}
    blocks = create_blocks(folder, found["items"], shapes, "float16")
    scanner = warehouse.arrow(ITEM_CONTENT_TOKENS, version=delta_version).scanner(
        columns=["item_id", "num_tokens", "tokens"],
        filter=ds.field("backbones") == backbones.fingerprint,
        batch_size=_ROWS,
        batch_readahead=2,
        fragment_readahead=1,
    )
    place_tokens(scanner.to_batches(), ids, blocks)
    write_content_json(folder, blocks, backbones=backbones.fingerprint, tokens_kept=backbones.tokens_kept)


def place_ids(batches: Iterable[pa.RecordBatch], ids: np.ndarray, first_rows: np.ndarray) -> None:
    """Write the item IDs, and for each item the row of the first item with the same content.

    Args:
        batches: Batches with ``item_id`` in ascending order, and ``first_id``, which is never above it.
        ids: (n,) item IDs, written in place.
        first_rows: (n,) int64 rows, written in place.
    """
    start = 0
    for batch in batches:
        end = start + len(batch)
        ids[start:end] = _ids(batch.column("item_id"))
        first_rows[start:end] = find_rows(ids[:end], _ids(batch.column("first_id")))
        start = end


def _first_of_content(rows: DataFrame) -> DataFrame:
    """Return ``item_id`` of each row and ``first_id``, the smallest ID of the items with the same content."""
    known = rows.select("item_id", "content_hash")
    first = known.groupBy("content_hash").agg(F.min("item_id").alias("first_id"))
    return known.join(first, on="content_hash").select("item_id", "first_id")


def place_tokens(
    batches: Iterable[pa.RecordBatch], ids: np.ndarray, blocks: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Write tokens to the rows of their items.

    Args:
        batches: Batches with ``item_id``, ``num_tokens`` and ``tokens`` in any order; items that are not in ``ids`` are
            skipped.
        ids: Item IDs (n,), ascending.
        blocks: Values (n, N, D) and mask (n, N) by modality, filled with 0; they are written in place.
    """
    for batch in batches:
        rows = find_rows(ids, _ids(batch.column("item_id")))
        counts, tokens = batch.column("num_tokens").to_pylist(), batch.column("tokens")
        for number in np.flatnonzero(rows >= 0):
            row, flat, start = rows[number], np.frombuffer(tokens[number].as_buffer(), "<f2"), 0
            for (values, mask), count in zip(blocks.values(), counts[number]):
                end = start + count * values.shape[2]
                values[row, :count] = flat[start:end].reshape(count, -1) if count else 0.0
                mask[row, :count] = True
                start = end


def _ids(column: pa.Array) -> np.ndarray:
    return column.to_numpy() if pa.types.is_integer(column.type) else as_ids(column.to_pylist())
