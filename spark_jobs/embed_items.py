"""items, encoder -> item_embeddings: only items whose content or encoder version is new."""

from __future__ import annotations

from typing import Annotated

import typer

from qarm_features.embedding import embed_items as embed
from qarm_features.embedding import items_to_embed
from qarm_features.item_encoder import current_encoder
from qarm_features.tables import ITEM_EMBEDDINGS, ITEMS
from spark_jobs.session import Counts, JobContext, job, main

_ROWS_PER_TASK = 50_000


@job(
    after="ingest-catalog",
    reads=("items", "encoders/"),
    writes=("item_embeddings", "encoders/"),
    settings=("encoder",),
)
def embed_items(
    context: JobContext,
    encoder_version: Annotated[int | None, typer.Option(help="Encoder to embed with; by default the newest.")] = None,
) -> Counts:
    """Embeds the items that are new, whose content changed, or that this encoder version has not seen."""
    settings, warehouse, encoders = context.settings, context.warehouse, context.artifacts("encoders")
    wanted = encoder_version is not None
    encoder = encoders.get(encoder_version).verify() if wanted else current_encoder(encoders, settings.encoder)
    items = warehouse.read(ITEMS)
    present = warehouse.read_or_empty(ITEM_EMBEDDINGS)
    new = items_to_embed(items, present, encoder_version=encoder.version)
    rows_in, rows_new = items.count(), new.count()
    if rows_new or not warehouse.exists(ITEM_EMBEDDINGS):
        conf = context.spark.sparkContext
        embeddings = embed(
            new,
            encoder_path=encoder.path,
            encoder_version=encoder.version,
            batch_size=settings.encoder.batch_size,
            partitions=max(1, min(-(-rows_new // settings.encoder.batch_size),
                                  max(conf.defaultParallelism, rows_new // _ROWS_PER_TASK))),
            task_cpus=int(conf.getConf().get("spark.task.cpus", "1")),
        ).persist()  # fmt: skip
        warehouse.upsert(ITEM_EMBEDDINGS, embeddings)
        embeddings.unpersist()
    return Counts(rows_in, rows_in, 0, f"{rows_new} items embedded by encoder v{encoder.version}, the others unchanged")


if __name__ == "__main__":
    main(embed_items)
