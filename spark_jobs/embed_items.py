"""items, encoder -> item_embeddings, rejected_rows: only items whose content or encoder version is new."""

from __future__ import annotations

from typing import Annotated

import typer
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.artifacts import Artifact
from qarm_features.embedding import embed_items as embed
from qarm_features.embedding import items_to_embed, rejected_of
from qarm_features.encoder_versions import current_encoder, media_limits
from qarm_features.tables import ITEM_EMBEDDINGS, ITEMS, REJECTED_ROWS
from spark_jobs.session import Counts, JobContext, job, main

_ROWS_PER_TASK = 50_000


@job(
    after="ingest-catalog",
    reads=("items", "encoders/"),
    writes=("item_embeddings", "rejected_rows", "encoders/"),
    settings=("encoder", "items"),
)
def embed_items(
    context: JobContext,
    encoder_version: Annotated[int | None, typer.Option(help="Encoder to embed with; by default the newest.")] = None,
) -> Counts:
    """Embeds the items that are new, whose content changed, or that this encoder version has not seen. Items that it
    cannot embed go to rejected_rows with the reason; the next run tries them again."""
    settings, warehouse, encoders = context.settings, context.warehouse, context.artifacts("encoders")
    wanted = encoder_version is not None
    encoder = encoders.get(encoder_version).verify() if wanted else current_encoder(encoders, settings)
    items = warehouse.read(ITEMS, version=warehouse.version(ITEMS))  # pinned: chunks are parts of one state
    present = warehouse.read_or_empty(ITEM_EMBEDDINGS)
    rows_in, rows_new = items.count(), items_to_embed(items, present, encoder_version=encoder.version).count()
    chunks, rejected = max(1, -(-rows_new // settings.encoder.items_per_commit)), 0
    for chunk in range(chunks):
        new = items_to_embed(items, present, encoder_version=encoder.version, chunk=chunk, num_chunks=chunks)
        embedded = _embedded(context, new, encoder, -(-rows_new // chunks)).persist(StorageLevel.MEMORY_AND_DISK)
        if rows_new or not warehouse.exists(ITEM_EMBEDDINGS):
            warehouse.upsert(ITEM_EMBEDDINGS, embedded.where(F.col("reason").isNull()))
        rejected += _write_rejected(context, embedded, first=chunk == 0, any_new=rows_new > 0)
        embedded.unpersist()
    remark = f"{rows_new - rejected} items embedded by encoder v{encoder.version}, the others unchanged"
    return Counts(rows_in, rows_in - rejected, rejected, remark)


def _embedded(context: JobContext, new: DataFrame, encoder: Artifact, rows: int) -> DataFrame:
    conf, batch_size = context.spark.sparkContext, context.settings.encoder.batch_size
    return embed(
        new,
        encoder,
        limits=media_limits(context.settings),
        batch_size=batch_size,
        partitions=max(1, min(-(-rows // batch_size), max(conf.defaultParallelism, rows // _ROWS_PER_TASK))),
        task_cpus=int(conf.getConf().get("spark.task.cpus", "1")),
    )


def _write_rejected(context: JobContext, embedded: DataFrame, *, first: bool, any_new: bool) -> int:
    """Writes the rejected rows of a chunk, the first in place of those of earlier runs; returns how many they are."""
    warehouse, rows = context.warehouse, rejected_of(embedded)
    count = rows.count() if any_new else 0
    exists = warehouse.exists(REJECTED_ROWS)
    earlier = exists and any(f"table={ITEM_EMBEDDINGS.name}/" in file for file in warehouse.files(REJECTED_ROWS))
    if first and earlier:
        warehouse.overwrite(REJECTED_ROWS, rows, where=f"`table` = '{ITEM_EMBEDDINGS.name}'")
    elif count or not exists:
        warehouse.append(REJECTED_ROWS, rows)
    return count


if __name__ == "__main__":
    main(embed_items)
