"""Run an encoder on the executors: its files are sent with the tasks, and each Python worker loads it once.

In: items with raw columns, an encoder version, and a function from (encoder, rows) to rows. Out: a lazy DataFrame.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from qarm_features.storage.artifacts import Artifact

if TYPE_CHECKING:
    from qarm_features.encoders.item_encoder import ItemEncoder

_ROWS_PER_TASK = 50_000
BUFFER_ROWS = 4096  # rows sorted by length together: more rows need less padding but more memory
BUFFER_BYTES = 64 << 20  # the same bound for rows that contain media


def encode_on_executors(
    items: DataFrame,
    encoder: Artifact,
    encode: Callable[[ItemEncoder, pa.RecordBatch, int], pa.RecordBatch],
    *,
    schema: str,
    limits: Mapping[str, Mapping[str, Any]],
    batch_size: int,
    rows: int,
    buffer_rows: int = BUFFER_ROWS,
) -> DataFrame:
    """Apply ``encode(encoder, rows, batch_size)`` to blocks of a few thousand items.

    Items with the same content come to the same task, and without media one after the other, so that ``encode`` can encode
    each content once: many products of a shop have the text of another one.

    Args:
        items: Rows with ``item_id``, ``content_hash`` and the columns that the encoder reads.
        encoder: The encoder version. Executors need no shared folder for it, but local media roots must exist on every
            executor.
        encode: Function that tasks can import.
        schema: Schema of the rows that ``encode`` returns, as DDL.
        limits: Limits of what may be read and decoded, from ``media_limits``.
        batch_size: Number of items that are encoded at once, at least 1.
        rows: Approximate number of items, from which the number of tasks follows: one for each 50,000 items. A task has
            ``spark.task.cpus`` threads.
        buffer_rows: Greatest number of rows that ``encode`` gets at once.

    Returns:
        A lazy DataFrame of the rows that ``encode`` returns.
    """
    files = {
        file.name: file.read_bytes() for file in encoder.path.iterdir() if file.suffix in (".json", ".safetensors")
    }
    context = items.sparkSession.sparkContext
    task_cpus = int(context.getConf().get("spark.task.cpus", "1"))
    partitions = max(1, min(-(-rows // batch_size), max(context.defaultParallelism, rows // _ROWS_PER_TASK)))
    run = functools.partial(
        _encode_batches,
        encode=encode,
        files=files,
        limits=json.dumps(limits),
        batch_size=batch_size,
        num_threads=task_cpus,
        buffer_rows=buffer_rows,
    )
    columns = encoder.manifest["columns"]
    content = items.select("item_id", "content_hash", *columns).repartition(partitions, "content_hash")
    has_media = "image" in columns or "audio" in columns
    if "text" in columns and not has_media:  # to sort bytes of media costs more than it saves
        content = content.sortWithinPartitions("content_hash", "item_id")
    return content.mapInArrow(run, schema)


def distinct_content(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, np.ndarray]:
    """Keep one row of each content, because items with the same content have the same embedding.

    Args:
        rows: B rows with ``content_hash``.

    Returns:
        The first row of each content in the order of the rows, and for each of the B rows the number (B,) int64 of the row
        with its content.
    """
    numbers = rows["content_hash"].dictionary_encode().indices.to_numpy(zero_copy_only=False)
    _, first = np.unique(numbers, return_index=True)  # the dictionary is in the order of first occurrence
    return rows.take(pa.array(first)), numbers.astype(np.int64)


def row_as_json(rows: pa.RecordBatch, number: int) -> str:
    """Return one row as JSON without null values; bytes are shown by their number.

    Args:
        rows: Rows with raw columns.
        number: Number of the row, from 0.

    Returns:
        A JSON object.
    """
    row = {name: rows[name][number].as_py() for name in rows.schema.names if name != "content_hash"}
    shown = {name: f"{len(value)} bytes" if isinstance(value, bytes) else value for name, value in row.items()}
    return json.dumps({name: value for name, value in shown.items() if value is not None}, ensure_ascii=False)


def regroup(batches: Iterator[pa.RecordBatch], rows: int, size: int) -> Iterator[pa.RecordBatch]:
    """Regroup batches into larger or smaller ones.

    Args:
        batches: Batches of any number of rows.
        rows: Greatest number of rows of a new batch, at least 1.
        size: Approximate greatest size of a new batch, in bytes.

    Yields:
        Batches of ``rows`` rows, or fewer rows of about ``size`` bytes; the last batch has the remaining rows.
    """
    held: list[pa.RecordBatch] = []
    count = held_bytes = 0
    for batch in batches:
        part = max(1, min(rows, batch.num_rows * size // max(1, batch.nbytes)))
        for start in range(0, batch.num_rows, part):
            piece = batch.slice(start, part)
            if held and (count + piece.num_rows > rows or held_bytes + piece.nbytes > size):
                yield pa.concat_batches(held)
                held, count, held_bytes = [], 0, 0
            held.append(piece)
            count += piece.num_rows
            held_bytes += piece.nbytes
    if count:
        yield pa.concat_batches(held)


def _encode_batches(
    batches: Iterator[pa.RecordBatch],
    *,
    encode: Callable[[ItemEncoder, pa.RecordBatch, int], pa.RecordBatch],
    files: dict[str, bytes],
    limits: str,
    batch_size: int,
    num_threads: int,
    buffer_rows: int,
) -> Iterator[pa.RecordBatch]:
    for rows in regroup(batches, buffer_rows, BUFFER_BYTES):
        yield encode(_load_encoder(tuple(sorted(files.items())), limits, num_threads), rows, batch_size)


@functools.lru_cache(maxsize=1)
def _load_encoder(files: tuple[tuple[str, bytes], ...], limits: str, num_threads: int) -> ItemEncoder:
    """Load the encoder once in each Python worker; Spark reuses a worker for many tasks."""
    import os
    import tempfile

    os.environ.setdefault("RAYON_NUM_THREADS", str(num_threads))  # threads of the tokenizer

    import torch
    from pyspark import TaskContext

    from qarm_features.encoders.item_encoder import ItemEncoder

    torch.set_num_threads(num_threads)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files:
            (Path(folder) / name).write_bytes(content)
        encoder = ItemEncoder.from_pretrained(folder, limits=json.loads(limits))
    context = TaskContext.get()
    assigned = context.resources().get("gpu") if context else None
    if torch.cuda.is_available():
        encoder.to(f"cuda:{assigned.addresses[0]}" if assigned else "cuda")
    return encoder
