"""VQ codes of items under one bank version.

In: ``item_embeddings`` of one encoder version. Out: a bank as an artifact, and rows of ``item_nearest_items`` for the items
that have none under this bank version yet. A VQ code never changes after it is written. ::

    item_id  embedding           encoder_version      item_id  vq_codes    vq_similarities   bank_version
    1        [0.02, -0.11, ...]  0                ->  1        [17, 4, 9]  [.93, .88, .71]   0
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.quantizers import NearestItems, NearestItemsModel
from qarm_features.storage.artifacts import Artifact, Artifacts
from qarm_features.storage.drafts import download_below, shared_draft
from qarm_features.storage.objects import AnyPath, ObjectPath

_BANK = "bank"
_TASK_QUERIES = 10_000  # number of items that a task looks up


def publish_bank(artifacts: Artifacts, embeddings: DataFrame, estimator: NearestItems, **manifest: Any) -> Artifact:
    """Freeze embeddings as the next bank version.

    Args:
        artifacts: Artifacts of the banks, in an object store or in a folder that the driver and every executor can reach.
        embeddings: Rows of ``item_id`` and ``embedding`` (D) of unit L2 norm, one per item.
        estimator: Estimator whose params are used, except ``bankPath``.
        manifest: Further entries of the manifest, beside ``rows``, ``shards``, ``exact``, ``recall`` and ``seconds``.

    Returns:
        The new bank version.
    """
    with shared_draft(artifacts.folder) as draft:
        model = estimator.copy({estimator.bankPath: f"{draft}/{_BANK}"}).fit(embeddings)
        summary = {**model.training_summary, **manifest}
        return artifacts.publish(lambda folder: _take(draft / _BANK, folder / _BANK), **summary)


def load_bank(artifact: Artifact) -> NearestItemsModel:
    """Return the model of a bank version, which adds ``vq_codes`` and ``vq_similarities`` to ``embedding``.

    Executors fetch a bank in an object store themselves, and check it as it comes; the driver needs only its ``bank.json``.
    """
    manifest = artifact.manifest if isinstance(artifact.place, ObjectPath) else artifact.verify().manifest
    params = {"k": manifest["k"], "numProbes": manifest["num_probes"]}
    return NearestItemsModel.from_bank(str(artifact.place / _BANK), **params)


def _take(draft: AnyPath, folder: Path) -> None:
    """Move a bank that the executors wrote into the folder of the new version."""
    if isinstance(draft, ObjectPath):
        download_below(draft, folder)
    else:
        os.rename(draft, folder)


def find_nearest_items(
    embeddings: DataFrame, found: DataFrame, *, model: NearestItemsModel, bank_version: int, encoder_version: int
) -> DataFrame:
    """Find the nearest items of all items that ``found`` does not hold under this bank version.

    Args:
        embeddings: Rows of ``item_embeddings`` of this encoder version.
        found: Rows of ``item_nearest_items``.
        model: Model of the bank, whose embeddings have the same encoder version.
        bank_version: Bank version, which is written beside every VQ code.
        encoder_version: Encoder version, which is written beside every VQ code.

    Returns:
        Rows of ``item_nearest_items``.
    """
    done = found.where(F.col("bank_version") == bank_version).select("item_id")
    new = embeddings.select("item_id", "embedding").join(done, on="item_id", how="left_anti")
    tasks = new.sparkSession.sparkContext.defaultParallelism
    tasks = max(tasks, model.bank.manifest["rows"] // _TASK_QUERIES)
    return model.transform(new.repartition(tasks, "item_id")).select(
        "item_id",
        "vq_codes",
        "vq_similarities",
        F.lit(bank_version).alias("bank_version"),
        F.lit(encoder_version).alias("encoder_version"),
        F.timestamp_seconds(F.lit(0)).alias("event_timestamp"),
    )
