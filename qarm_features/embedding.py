"""The whole catalog is embedded on Spark, incrementally.

In: ``items``, what ``item_embeddings`` already holds, an encoder version. Out: rows of ``item_embeddings`` for the items
that are new, whose content changed, or that this encoder version has not seen. ::

    item_id  text       content_hash         item_id  embedding           content_hash  encoder_version
    1        Toy Story  ab12            ->   1        [0.02, -0.11, ...]  ab12          0
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_BUFFER_ROWS = 4096  # rows sorted by length together: enough to pad little, few enough to bound memory


def items_to_embed(items: DataFrame, embeddings: DataFrame, *, encoder_version: int) -> DataFrame:
    """Returns the items of which ``embeddings`` has no row with their content under this encoder version."""
    done = embeddings.where(F.col("encoder_version") == encoder_version).select("item_id", "content_hash")
    return items.join(done, on=["item_id", "content_hash"], how="left_anti")


def embed_items(
    items: DataFrame, *, encoder_path: Path, encoder_version: int, batch_size: int, partitions: int, task_cpus: int
) -> DataFrame:
    """Embeds every row of ``items``.

    Args:
        items: ``item_id``, ``text``, ``content_hash``.
        encoder_path: Folder of the encoder; its files travel with the tasks, so executors need no shared folder.
        encoder_version: Written beside every embedding.
        batch_size: Items encoded at once.
        partitions: Tasks that the rows are spread over, by a hash of the item ID.
        task_cpus: Threads that one task may use (``spark.task.cpus``).

    Returns:
        Rows of ``item_embeddings``, lazily.
    """
    files = {file.name: file.read_bytes() for file in Path(encoder_path).iterdir() if file.is_file()}
    id_type = items.schema["item_id"].dataType.simpleString()
    embed = functools.partial(_embed_batches, files=files, batch_size=batch_size, num_threads=task_cpus)
    schema = f"item_id {id_type}, embedding array<float>, content_hash string"
    rows = items.select("item_id", "text", "content_hash").repartition(partitions, "item_id")
    return rows.mapInArrow(embed, schema).withColumn("encoder_version", F.lit(encoder_version))


def _embed_batches(
    batches: Iterator[pa.RecordBatch], *, files: dict[str, bytes], batch_size: int, num_threads: int
) -> Iterator[pa.RecordBatch]:
    encoder = None
    for rows in _rebatch(batches, _BUFFER_ROWS):
        if encoder is None:
            encoder = _load_encoder(tuple(sorted(files.items())), num_threads)
        embeddings = encoder.encode({"text": rows["text"].to_pylist()}, batch_size=batch_size).numpy()
        flat = pa.array(embeddings.reshape(-1), pa.float32())
        offsets = pa.array(range(0, len(flat) + 1, embeddings.shape[1]), pa.int32())
        yield pa.RecordBatch.from_arrays(
            [rows["item_id"], pa.ListArray.from_arrays(offsets, flat), rows["content_hash"]],
            ["item_id", "embedding", "content_hash"],
        )


def _rebatch(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Regroups batches of any size into batches of ``rows`` rows; the last one is shorter."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= rows:
            joined = pa.concat_batches(held)
            yield joined.slice(0, rows)
            held = [joined.slice(rows)]
            count -= rows
    if count:
        yield pa.concat_batches(held)


@functools.lru_cache(maxsize=1)
def _load_encoder(files: tuple[tuple[str, bytes], ...], num_threads: int):
    """Loads the encoder once per Python worker, which Spark reuses from task to task."""
    import tempfile

    import torch
    from pyspark import TaskContext

    from qarm_features.item_encoder import ItemEncoder

    torch.set_num_threads(num_threads)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files:
            (Path(folder) / name).write_bytes(content)
        encoder = ItemEncoder.from_pretrained(folder)
    context = TaskContext.get()
    assigned = context.resources().get("gpu") if context else None
    if torch.cuda.is_available():
        encoder.to(f"cuda:{assigned.addresses[0]}" if assigned else "cuda")
    return encoder
