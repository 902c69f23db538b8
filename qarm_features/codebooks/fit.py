"""Codebooks of a catalog from its settings: which quantizer, and how much each item weighs.

In: ``item_embeddings`` of one encoder version, perhaps ``interactions``. Out: a fitted model and figures per level.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.codebooks.level_figures import fitted_levels
from qarm_features.quantizers import ResidualKMeans, ResidualKMeansFiniteScalar
from qarm_features.quantizers.rq_models import RQEstimator, RQModel
from qarm_features.settings.codes import Codebooks
from qarm_features.storage.artifacts import Artifact, Artifacts

WEIGHT = "popularity_weight"


def quantizer(wanted: Codebooks, *, seed: int) -> ResidualKMeans | ResidualKMeansFiniteScalar:
    """Returns the estimator that the settings ask for; it reads ``embedding`` and, where they weigh items, `WEIGHT`."""
    kind = ResidualKMeansFiniteScalar if wanted.last_level == "fsq" else ResidualKMeans
    weight = {} if wanted.popularity_power is None else {"weightCol": WEIGHT}
    return kind(**wanted.options(), **weight, seed=seed)


def last_alike(codebooks: Artifacts, wanted: Codebooks, *, seed: int) -> Artifact | None:
    """Returns the newest codebook version of the same seed, levels, sizes and kind of last level: a refit starts there."""
    kinds = ("fsq",) if wanted.last_level == "fsq" else (None, "k-means")  # no kind named: k-means
    shape = {name: getattr(wanted, name) for name in ("num_levels", "codebook_size", "fsq_levels")}
    found = [codebooks.find(seed=seed, **shape, last_level=kind) for kind in kinds]
    return max((artifact for artifact in found if artifact), key=lambda artifact: artifact.version, default=None)


def with_popularity(embeddings: DataFrame, interactions: DataFrame, power: float) -> DataFrame:
    """Adds how much each item weighs in a fit: (1 + its positives) to a power, so that new items count too.

    Args:
        embeddings: ``item_id`` and more.
        interactions: ``item_id``, ``label`` (1 for a positive).
        power: Above 0; 1 weighs by clicks, less is nearer to all alike.

    Returns:
        The rows with ``popularity_weight``, double, at least 1.
    """
    positives = interactions.where(F.col("label") == 1).groupBy("item_id").agg(F.count("*").alias("positives"))
    rows = embeddings.join(positives, on="item_id", how="left")
    weight = F.pow(1 + F.coalesce("positives", F.lit(0)), F.lit(float(power)))
    return rows.withColumn(WEIGHT, weight).drop("positives")


def fit_model(embeddings: DataFrame, estimator: RQEstimator) -> tuple[RQModel, list[dict[str, Any]]]:
    """Fits from nothing.

    Args:
        embeddings: ``embedding`` (D) of about unit norm, and what the estimator's weightCol names.
        estimator: As of `quantizer`.

    Returns:
        The model, and what `level_figures.fitted_levels` returns.
    """
    model = estimator.fit(embeddings)
    return model, fitted_levels(model, embeddings)
