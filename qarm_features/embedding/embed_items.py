"""Embed the whole catalog on Spark, incrementally.

In: ``items``, the present rows of ``item_embeddings``, and an encoder version. Out: rows of ``item_embeddings`` for the items
that are new, have changed content, or were not yet encoded by this encoder version; and for each item that cannot be
embedded the reason. ::

    item_id  text       content_hash         item_id  embedding           content_hash  encoder_version  reason
    1        Toy Story  ab12            ->   1        [0.02, -0.11, ...]  ab12          0                null
    2        null       cd34                 2        null                cd34          0                no modality that ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.embedding.on_executors import distinct_content, encode_on_executors, row_as_json
from qarm_features.settings.sections import Encoder
from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.tables import ITEM_EMBEDDINGS, REJECTED_ROWS
from qarm_features.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from qarm_features.encoders.item_encoder import ItemEncoder


def items_to_embed(
    items: DataFrame, embeddings: DataFrame, *, encoder_version: int, chunk: int = 0, num_chunks: int = 1
) -> DataFrame:
    """Return the items that have no embedding of their present content by this encoder version.

    Args:
        items: Rows of ``items``.
        embeddings: Rows of ``item_embeddings``.
        encoder_version: Encoder version, from 0.
        chunk: Number of the part of the items that is returned, in [0, num_chunks); a hash of the item ID assigns parts.
        num_chunks: Number of parts, at least 1.

    Returns:
        Rows of ``items``.
    """
    done = embeddings.where(F.col("encoder_version") == encoder_version).select("item_id", "content_hash")
    if num_chunks > 1:  # both sides are filtered, so that the join reads only its share of the rows
        is_in_chunk = F.pmod(F.xxhash64("item_id"), F.lit(num_chunks)) == chunk
        items, done = items.where(is_in_chunk), done.where(is_in_chunk)
    return items.join(done, on=["item_id", "content_hash"], how="left_anti")


def embed_items(
    items: DataFrame,
    encoder: Artifact,
    *,
    limits: Mapping[str, Mapping[str, Any]],
    batch_size: int,
    rows: int,
) -> DataFrame:
    """Embed every row of ``items``.

    Args:
        items: Rows with ``item_id``, ``content_hash`` and the columns that the encoder reads.
        encoder: The encoder version. Its files are sent with the tasks, so that executors need no shared folder for it;
            local media roots must exist on every executor.
        limits: Limits of what may be read and decoded, from ``media_limits``.
        batch_size: Number of items that are encoded at once, at least 1.
        rows: Approximate number of items, from which the number of tasks follows: one for each 50,000 items.

    Returns:
        A lazy DataFrame with rows of ``item_embeddings`` and the columns ``row`` (JSON) and ``reason``. Both are null for
        an embedded item; for any other item ``embedding`` is null.
    """
    id_type = items.schema["item_id"].dataType.simpleString()
    schema = f"item_id {id_type}, embedding array<float>, content_hash string, `row` string, reason string"
    encoded = encode_on_executors(
        items, encoder, _embed_rows, schema=schema, limits=limits, batch_size=batch_size, rows=rows
    )
    origin = {"encoder_version": F.lit(encoder.version), "encoder_fingerprint": F.lit(encoder.fingerprint)}
    return encoded.withColumns(origin)


class Embedded(NamedTuple):
    """What was written for the items that had no embedding of their content.

    Attributes:
        rows: Number of these items.
        rejected: Number of those that could not be embedded.
    """

    rows: int
    rejected: int


def write_embeddings(
    warehouse: Warehouse,
    items: DataFrame,
    present: DataFrame,
    encoder: Artifact,
    settings: Encoder,
    *,
    limits: Mapping[str, Mapping[str, Any]],
    replace_rejected: bool,
) -> Embedded:
    """Embed the items that have no embedding of their present content, in chunks of one commit each.

    Args:
        warehouse: Tables of the project.
        items: Rows of ``items``: the whole catalog, or the items that may lack an embedding.
        present: Rows of ``item_embeddings`` of these items at least.
        encoder: The encoder version.
        settings: Section ``encoder`` of the settings.
        limits: Limits of what may be read and decoded, from ``media_limits``.
        replace_rejected: True if the rejected items replace those of earlier runs, False if they are added to them.
    """
    rows, changed = _to_embed(items, present, encoder.version)
    chunks, rejected = max(1, -(-rows // settings.items_per_commit)), 0
    for chunk in range(chunks):
        new = items_to_embed(items, present, encoder_version=encoder.version, chunk=chunk, num_chunks=chunks)
        embedded = embed_items(
            new, encoder, limits=limits, batch_size=settings.batch_size, rows=-(-rows // chunks)
        ).persist(StorageLevel.DISK_ONLY)  # a heap full of vectors leaves too little for sorts and writers
        if rows or not warehouse.exists(ITEM_EMBEDDINGS):
            found = embedded.where(F.col("reason").isNull())
            write = warehouse.upsert if changed else warehouse.append_missing
            write(ITEM_EMBEDDINGS, found, part={"encoder_version": encoder.version})
        if rows or replace_rejected:
            rejected += write_rejected(warehouse, embedded, first=replace_rejected and chunk == 0, any_new=rows > 0)
        embedded.unpersist()
    return Embedded(rows, rejected)


def embeddings_of(warehouse: Warehouse, items: DataFrame, encoder: Artifact) -> DataFrame:
    """Return the rows of ``item_embeddings`` of some items by an encoder version.

    Args:
        warehouse: Tables of the project.
        items: Rows with ``item_id``.
        encoder: The encoder version.
    """
    rows = warehouse.read_or_empty(ITEM_EMBEDDINGS).where(F.col("encoder_version") == encoder.version)
    return rows.join(items.select("item_id"), on="item_id", how="left_semi")


def _to_embed(items: DataFrame, present: DataFrame, encoder_version: int) -> tuple[int, int]:
    """Return the number of items without an embedding of their content, and of those that have one of other content."""
    done = present.where(F.col("encoder_version") == encoder_version)
    done = done.select("item_id", F.col("content_hash").alias("hash_before"), F.lit(True).alias("is_known"))
    joined = items.select("item_id", "content_hash").join(done, on="item_id", how="left")
    is_changed = F.col("is_known") & ~F.col("content_hash").eqNullSafe(F.col("hash_before"))
    new, changed = joined.agg(F.count_if(F.col("is_known").isNull()), F.count_if(is_changed)).collect()[0]
    return new + changed, changed


def write_rejected(warehouse: Warehouse, embedded: DataFrame, *, first: bool, any_new: bool) -> int:
    """Write the rows that could not be embedded to ``rejected_rows``.

    Args:
        warehouse: Tables of the project.
        embedded: Rows that ``embed_items`` returned for one chunk.
        first: True if the rows replace the rejected rows of earlier runs, False if they are added to them.
        any_new: False if the chunk has no items, so that nothing is counted.

    Returns:
        Number of rejected rows.
    """
    rejected = embedded.where(F.col("reason").isNotNull())
    rows = rejected.select(F.lit(ITEM_EMBEDDINGS.name).alias("table"), "row", "reason")
    count = rows.count() if any_new else 0
    exists = warehouse.exists(REJECTED_ROWS)
    earlier = exists and any(f"table={ITEM_EMBEDDINGS.name}/" in file for file in warehouse.files(REJECTED_ROWS))
    if first and earlier:
        warehouse.overwrite(REJECTED_ROWS, rows, where=f"`table` = '{ITEM_EMBEDDINGS.name}'")
    elif count or not exists:
        same = ("table", "row", "reason")  # another process may have rejected the same items
        warehouse.upsert(REJECTED_ROWS, rows, part={"table": ITEM_EMBEDDINGS.name}, key=same, replace=False)
    return count


def _embed_rows(encoder: ItemEncoder, rows: pa.RecordBatch, batch_size: int) -> pa.RecordBatch:
    distinct, number = distinct_content(rows)
    columns = {name: distinct[name].to_pylist() for name in encoder.columns}
    embeddings, of_content = encoder.encode(columns, batch_size=batch_size)
    embeddings, reasons = embeddings[number], [of_content[place] for place in number]
    flat = pa.array(embeddings.numpy().reshape(-1), pa.float32())
    offsets = pa.array(range(0, len(flat) + 1, embeddings.shape[1]), pa.int32())
    rejected = pa.array([reason is not None for reason in reasons])
    shown = [None if reason is None else row_as_json(rows, number) for number, reason in enumerate(reasons)]
    return pa.RecordBatch.from_arrays(
        [rows["item_id"], pa.ListArray.from_arrays(offsets, flat, mask=rejected), rows["content_hash"],
         pa.array(shown, pa.string()), pa.array(reasons, pa.string())],
        ["item_id", "embedding", "content_hash", "row", "reason"],
    )  # fmt: skip
