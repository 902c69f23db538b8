"""Finds VQ codes.

In: ``item_embeddings``. Out: a bank version, ``item_nearest_items``.
"""

from __future__ import annotations

from typing import Annotated

import typer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.codebooks.banks import find_nearest_items as find
from qarm_features.codebooks.banks import load_bank, publish_bank
from qarm_features.embedding.encoder_versions import current_encoder
from qarm_features.jobs.context import ENCODER_SETTINGS, JobContext, existing_version
from qarm_features.jobs.job import Counts, job
from qarm_features.quantizers import NearestItems
from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.conditional_writes import again_if_changed
from qarm_features.storage.deleting import delete_deleted_items
from qarm_features.storage.origins import is_of_encoder, require_same_origin
from qarm_features.storage.tables import ITEM_EMBEDDINGS, ITEM_NEAREST_ITEMS, ITEMS


@job(
    after="embed-items",
    reads=("items", "deleted_items", "item_embeddings", "encoders/"),
    writes=("banks/", "item_nearest_items"),
    settings=(*ENCODER_SETTINGS, "nearest_items"),
)
def find_nearest_items(
    context: JobContext,
    refit: Annotated[bool, typer.Option(help="Freeze a new bank even if one exists for this encoder.")] = False,
) -> Counts:
    """Finds a VQ code, which is the IDs of the nearest items, for every item that has none under this bank version.

    A bank holds the embeddings that are searched. It stays frozen until the encoder or the settings change or --refit is
    given: items added later get a VQ code, but are in no VQ code themselves. On several machines, artifacts must be a URI,
    or a folder that all of them reach.
    """
    settings, warehouse, banks = context.settings, context.warehouse, context.artifacts("banks")
    encoder = current_encoder(context.artifacts("encoders"), settings)
    options = settings.nearest_items
    delta_version = existing_version(warehouse, ITEM_EMBEDDINGS)
    require_same_origin(warehouse, ITEM_EMBEDDINGS, encoder, version=delta_version)
    embeddings = warehouse.read(ITEM_EMBEDDINGS, version=delta_version)
    embeddings = embeddings.where(F.col("encoder_version") == encoder.version)
    embeddings = embeddings.join(warehouse.read(ITEMS).select("item_id"), on="item_id", how="left_semi")
    made_from = {"encoder_version": encoder.version, "seed": settings.seed, **options.model_dump()}
    bank = banks.find(**made_from)
    if bank is None or refit or not is_of_encoder(bank, encoder):
        estimator = NearestItems(
            k=options.k, exactUpTo=options.exact_up_to, numProbes=options.num_probes, seed=settings.seed
        )
        bank = publish_bank(banks, embeddings, estimator, **made_from, encoder_fingerprint=encoder.fingerprint)
    require_same_origin(warehouse, ITEM_NEAREST_ITEMS, bank)
    searched = bank
    rows, rows_new = embeddings.count(), again_if_changed(lambda: _find_new(context, searched, embeddings))
    delete_deleted_items(warehouse, ITEM_NEAREST_ITEMS)
    recall = bank.manifest["recall"]
    how = "exactly" if recall is None else f"with recall {recall:.3f}"
    return Counts(rows, rows, 0, f"{rows_new} VQ codes found in bank v{bank.version}, {how}")


def _find_new(context: JobContext, bank: Artifact, embeddings: DataFrame) -> int:
    """Finds the VQ codes of the items that have none, and returns their number.

    Raises:
        ChangedMeanwhile: Another process found VQ codes in this bank in between.
    """
    warehouse = context.warehouse
    base = warehouse.base(ITEM_NEAREST_ITEMS, {"bank_version": bank.version})
    new = find(
        embeddings,
        warehouse.read_base(ITEM_NEAREST_ITEMS, base),
        model=load_bank(bank),
        bank_version=bank.version,
        encoder_version=bank.manifest["encoder_version"],
    )
    new = new.withColumn("bank_fingerprint", F.lit(bank.fingerprint)).persist()
    try:
        rows = new.count()
        if rows:
            warehouse.append(ITEM_NEAREST_ITEMS, new, base=base)
        return rows
    finally:
        new.unpersist()
