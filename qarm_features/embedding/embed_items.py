"""The whole catalog is embedded on Spark, incrementally.

In: ``items``, what ``item_embeddings`` already holds, an encoder version. Out: rows of ``item_embeddings`` for the items
that are new, whose content changed, or that this encoder version has not seen; and the reason of each that it cannot
embed. ::

    item_id  text       content_hash         item_id  embedding           content_hash  encoder_version  reason
    1        Toy Story  ab12            ->   1        [0.02, -0.11, ...]  ab12          0                null
    2        null       cd34                 2        null                cd34          0                no modality that ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.embedding.on_executors import encode_on_executors, row_as_json
from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.tables import ITEM_EMBEDDINGS, REJECTED_ROWS
from qarm_features.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from qarm_features.encoders.item_encoder import ItemEncoder


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
    id_type = items.schema["item_id"].dataType.simpleString()
    schema = f"item_id {id_type}, embedding array<float>, content_hash string, `row` string, reason string"
    encoded = encode_on_executors(
        items, encoder, _embed_rows, schema=schema, limits=limits, batch_size=batch_size, rows=rows
    )
    return encoded.withColumn("encoder_version", F.lit(encoder.version))


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


def _embed_rows(encoder: ItemEncoder, rows: pa.RecordBatch, batch_size: int) -> pa.RecordBatch:
    columns = {name: rows[name].to_pylist() for name in encoder.columns}
    embeddings, reasons = encoder.encode(columns, batch_size=batch_size)
    flat = pa.array(embeddings.numpy().reshape(-1), pa.float32())
    offsets = pa.array(range(0, len(flat) + 1, embeddings.shape[1]), pa.int32())
    lost = pa.array([reason is not None for reason in reasons])
    shown = [None if reason is None else row_as_json(rows, number) for number, reason in enumerate(reasons)]
    return pa.RecordBatch.from_arrays(
        [rows["item_id"], pa.ListArray.from_arrays(offsets, flat, mask=lost), rows["content_hash"],
         pa.array(shown, pa.string()), pa.array(reasons, pa.string())],
        ["item_id", "embedding", "content_hash", "row", "reason"],
    )  # fmt: skip
