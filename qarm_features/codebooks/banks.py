"""Item embeddings become VQ codes under one bank version.

In: ``item_embeddings`` of one encoder version. Out: a bank as an artifact, and rows of ``item_nearest_items`` for the items
that have none under this bank version yet: a VQ code, once written, never moves. ::

    item_id  embedding           encoder_version      item_id  vq_codes    vq_similarities   bank_version
    1        [0.02, -0.11, ...]  0                ->  1        [17, 4, 9]  [.93, .88, .71]   0
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.quantizers import NearestItems, NearestItemsModel
from qarm_features.storage.artifacts import Artifact, Artifacts

_BANK = "bank"
_QUERIES_OF_TASK = 10_000


def publish_bank(artifacts: Artifacts, embeddings: DataFrame, estimator: NearestItems, **manifest: Any) -> Artifact:
    """Freezes embeddings as the next bank version.

    Args:
        artifacts: The banks. Their folder must be one that the driver and every executor reach.
        embeddings: ``item_id``, ``embedding`` (D) unit L2 norm, a row per item.
        estimator: How; its bankPath is set here.
        manifest: What else to keep, beside rows, shards, exact, recall and seconds of the fit.
    """
    artifacts.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=artifacts.folder.parent, prefix=".bank-") as draft:
        model = estimator.copy({estimator.bankPath: f"{draft}/{_BANK}"}).fit(embeddings)
        summary = {**model.training_summary, **manifest}
        return artifacts.publish(lambda folder: os.rename(f"{draft}/{_BANK}", folder / _BANK), **summary)


def load_bank(artifact: Artifact) -> NearestItemsModel:
    """Returns the model of a bank version, from ``embedding`` to ``vq_codes`` and ``vq_similarities``."""
    of = artifact.verify().manifest
    return NearestItemsModel.from_bank(artifact.path / _BANK, k=of["k"], numProbes=of["num_probes"])


def find_nearest_items(
    embeddings: DataFrame, found: DataFrame, *, model: NearestItemsModel, bank_version: int, encoder_version: int
) -> DataFrame:
    """Finds the nearest items of the items that ``found`` does not hold under this bank version.

    Args:
        embeddings: Rows of ``item_embeddings`` of this encoder version.
        found: Rows of ``item_nearest_items``.
        model: The bank, of embeddings of the same encoder version.
        bank_version: Written beside every VQ code.
        encoder_version: Likewise.

    Returns:
        Rows of ``item_nearest_items``.
    """
    done = found.where(F.col("bank_version") == bank_version).select("item_id")
    new = embeddings.select("item_id", "embedding").join(done, on="item_id", how="left_anti")
    tasks = new.sparkSession.sparkContext.defaultParallelism
    tasks = max(tasks, model.bank.manifest["rows"] // _QUERIES_OF_TASK)
    return model.transform(new.repartition(tasks, "item_id")).select(
        "item_id",
        "vq_codes",
        "vq_similarities",
        F.lit(bank_version).alias("bank_version"),
        F.lit(encoder_version).alias("encoder_version"),
        F.timestamp_seconds(F.lit(0)).alias("event_timestamp"),
    )
