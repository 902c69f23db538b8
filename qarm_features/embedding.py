"""The whole catalog is embedded on Spark, incrementally.

In: ``items``, what ``item_embeddings`` already holds, an encoder version. Out: rows of ``item_embeddings`` for the items
that are new, whose content changed, or that this encoder version has not seen; and the reason of each that it cannot
embed. ::

    item_id  text       content_hash         item_id  embedding           content_hash  encoder_version  reason
    1        Toy Story  ab12            ->   1        [0.02, -0.11, ...]  ab12          0                null
    2        null       cd34                 2        null                cd34          0                no modality that ...
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.artifacts import Artifact
from qarm_features.tables import ITEM_EMBEDDINGS, REJECTED_ROWS
from qarm_features.warehouse import Warehouse

_ROWS_PER_TASK = 50_000
_BUFFER_ROWS = 4096  # rows sorted by length together: enough to pad little, few enough to bound memory
_BUFFER_BYTES = 64 << 20  # the same for rows that carry media


def items_to_embed(
    items: DataFrame, embeddings: DataFrame, *, encoder_version: int, chunk: int = 0, num_chunks: int = 1
) -> DataFrame:
    """Returns the items of which ``embeddings`` has no row with their content under this encoder version.

    Args:
        items: Rows of ``items``.
        embeddings: Rows of ``item_embeddings``.
        encoder_version: The version asked about.
        chunk: Which part of the items, in [0, num_chunks), drawn by a hash of the item ID.
        num_chunks: Parts in all.
    """
    done = embeddings.where(F.col("encoder_version") == encoder_version).select("item_id", "content_hash")
    if num_chunks > 1:  # of both sides, so that the join of a chunk costs no more than its share
        of_chunk = F.pmod(F.xxhash64("item_id"), F.lit(num_chunks)) == chunk
        items, done = items.where(of_chunk), done.where(of_chunk)
    return items.join(done, on=["item_id", "content_hash"], how="left_anti")


def embed_items(
    items: DataFrame,
    encoder: Artifact,
    *,
    limits: Mapping[str, Mapping[str, Any]],
    batch_size: int,
    rows: int,
) -> DataFrame:
    """Embeds every row of ``items``.

    Args:
        items: ``item_id``, ``content_hash`` and the columns that the encoder reads.
        encoder: The encoder; its files travel with the tasks, so executors need no shared folder for it. Local media
            roots every executor must see itself.
        limits: What may be read and decoded, from ``media_limits``.
        batch_size: Items encoded at once.
        rows: About how many they are; tasks of 50,000 and their threads (``spark.task.cpus``) follow from it.

    Returns:
        Rows of ``item_embeddings``, lazily, with ``row`` (JSON) and ``reason``: both null where embedded; where not,
        ``embedding`` is null.
    """
    files = {
        file.name: file.read_bytes() for file in encoder.path.iterdir() if file.suffix in (".json", ".safetensors")
    }
    context = items.sparkSession.sparkContext
    task_cpus = int(context.getConf().get("spark.task.cpus", "1"))
    partitions = max(1, min(-(-rows // batch_size), max(context.defaultParallelism, rows // _ROWS_PER_TASK)))
    embed = functools.partial(
        _embed_batches, files=files, limits=json.dumps(limits), batch_size=batch_size, num_threads=task_cpus
    )
    id_type = items.schema["item_id"].dataType.simpleString()
    schema = f"item_id {id_type}, embedding array<float>, content_hash string, `row` string, reason string"
    content = items.select("item_id", "content_hash", *encoder.manifest["columns"]).repartition(partitions, "item_id")
    return content.mapInArrow(embed, schema).withColumn("encoder_version", F.lit(encoder.version))


def write_rejected(warehouse: Warehouse, embedded: DataFrame, *, first: bool, any_new: bool) -> int:
    """Writes the rows that could not be embedded to ``rejected_rows``.

    Args:
        warehouse: Where to.
        embedded: What ``embed_items`` returned for one chunk.
        first: The rows take the place of those of earlier runs.
        any_new: Without new items there is nothing to count.

    Returns:
        How many they are.
    """
    rejected = embedded.where(F.col("reason").isNotNull())
    rows = rejected.select(F.lit(ITEM_EMBEDDINGS.name).alias("table"), "row", "reason")
    count = rows.count() if any_new else 0
    exists = warehouse.exists(REJECTED_ROWS)
    earlier = exists and any(f"table={ITEM_EMBEDDINGS.name}/" in file for file in warehouse.files(REJECTED_ROWS))
    if first and earlier:
        warehouse.overwrite(REJECTED_ROWS, rows, where=f"`table` = '{ITEM_EMBEDDINGS.name}'")
    elif count or not exists:
        warehouse.append(REJECTED_ROWS, rows)
    return count


def _embed_batches(
    batches: Iterator[pa.RecordBatch], *, files: dict[str, bytes], limits: str, batch_size: int, num_threads: int
) -> Iterator[pa.RecordBatch]:
    encoder = None
    for rows in _rebatch(batches, _BUFFER_ROWS, _BUFFER_BYTES):
        if encoder is None:
            encoder = _load_encoder(tuple(sorted(files.items())), limits, num_threads)
        columns = {name: rows[name].to_pylist() for name in encoder.columns}
        embeddings, reasons = encoder.encode(columns, batch_size=batch_size)
        flat = pa.array(embeddings.numpy().reshape(-1), pa.float32())
        offsets = pa.array(range(0, len(flat) + 1, embeddings.shape[1]), pa.int32())
        lost = pa.array([reason is not None for reason in reasons])
        shown = [None if reason is None else _as_json(rows, number) for number, reason in enumerate(reasons)]
        yield pa.RecordBatch.from_arrays(
            [rows["item_id"], pa.ListArray.from_arrays(offsets, flat, mask=lost), rows["content_hash"],
             pa.array(shown, pa.string()), pa.array(reasons, pa.string())],
            ["item_id", "embedding", "content_hash", "row", "reason"],
        )  # fmt: skip


def _as_json(rows: pa.RecordBatch, number: int) -> str:
    """Shows what a row has; of bytes only their number."""
    row = {name: rows[name][number].as_py() for name in rows.schema.names if name != "content_hash"}
    shown = {name: f"{len(value)} bytes" if isinstance(value, bytes) else value for name, value in row.items()}
    return json.dumps({name: value for name, value in shown.items() if value is not None}, ensure_ascii=False)


def _rebatch(batches: Iterator[pa.RecordBatch], rows: int, size: int) -> Iterator[pa.RecordBatch]:
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


@functools.lru_cache(maxsize=1)
def _load_encoder(files: tuple[tuple[str, bytes], ...], limits: str, num_threads: int):
    """Loads the encoder once per Python worker, which Spark reuses from task to task."""
    import os
    import tempfile

    os.environ.setdefault("RAYON_NUM_THREADS", str(num_threads))  # of the tokenizer, as set_num_threads of torch

    import torch
    from pyspark import TaskContext

    from qarm_features.item_encoder import ItemEncoder

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
