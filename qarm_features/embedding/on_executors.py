"""An encoder runs on the executors: its files travel with the tasks, and each Python worker loads it once.

In: items with raw columns, an encoder version, a function from (encoder, rows) to rows. Out: a lazy DataFrame.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import DataFrame

from qarm_features.storage.artifacts import Artifact

if TYPE_CHECKING:
    from qarm_features.encoders.item_encoder import ItemEncoder

_ROWS_PER_TASK = 50_000
BUFFER_ROWS = 4096  # rows sorted by length together: enough to pad little, few enough to bound memory
BUFFER_BYTES = 64 << 20  # the same for rows that carry media


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
    """Applies ``encode(encoder, rows, batch_size)`` to every few thousand items.

    Args:
        items: ``item_id``, ``content_hash`` and the columns that the encoder reads.
        encoder: Executors need no shared folder for it. Local media roots every executor must see itself.
        encode: A function that tasks can import.
        schema: Of what it returns, as DDL.
        limits: What may be read and decoded, from ``media_limits``.
        batch_size: Items encoded at once.
        rows: About how many items there are; tasks of 50,000 and their threads (``spark.task.cpus``) follow from it.
        buffer_rows: Most rows given to ``encode`` at once.
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
    content = items.select("item_id", "content_hash", *encoder.manifest["columns"])
    return content.repartition(partitions, "item_id").mapInArrow(run, schema)


def row_as_json(rows: pa.RecordBatch, number: int) -> str:
    """Shows what a row has; of bytes only their number."""
    row = {name: rows[name][number].as_py() for name in rows.schema.names if name != "content_hash"}
    shown = {name: f"{len(value)} bytes" if isinstance(value, bytes) else value for name, value in row.items()}
    return json.dumps({name: value for name, value in shown.items() if value is not None}, ensure_ascii=False)


def regroup(batches: Iterator[pa.RecordBatch], rows: int, size: int) -> Iterator[pa.RecordBatch]:
    """Regroups batches into ones of ``rows`` rows, or fewer of about ``size`` bytes; the last one is shorter."""
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
    """Loads the encoder once per Python worker, which Spark reuses from task to task."""
    import os
    import tempfile

    os.environ.setdefault("RAYON_NUM_THREADS", str(num_threads))  # of the tokenizer, as set_num_threads of torch

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
