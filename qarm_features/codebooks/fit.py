"""A fit of codebooks as the settings ask for it.

In: ``item_embeddings`` of one encoder version, the settings, and perhaps ``interactions``, from which items get weights.
Out: a fitted model, and figures per level.
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
    """Return the estimator that the settings ask for.

    It reads ``embedding`` and, if the settings weigh items by popularity, the column ``WEIGHT``.

    Args:
        wanted: Settings of the codebooks.
        seed: Seed for all draws.
    """
    kind = ResidualKMeansFiniteScalar if wanted.last_level == "fsq" else ResidualKMeans
    params: dict[str, Any] = {**wanted.options(), "seed": seed}
    if wanted.popularity_power is not None:
        params["weightCol"] = WEIGHT
    return kind(**params)


def require_enough_items(wanted: Codebooks, items: int) -> None:
    """Raises an error if a level has more centroids than there are items.

    Args:
        wanted: Settings of the codebooks.
        items: Number of embedded items, at least 0.

    Raises:
        ValueError: If codebook_size is above the number of items.
    """
    sizes = wanted.codebook_size
    largest = max(sizes) if isinstance(sizes, list) else sizes
    if largest > items:
        raise ValueError(
            f"codebooks.codebook_size is {largest}, must be at most the number of items, {items}. Set it in qarm.yaml so "
            "that a code of the first level holds about twenty items, then run the command again."
        )


def last_alike(codebooks: Artifacts, wanted: Codebooks, *, seed: int) -> Artifact | None:
    """Return the codebook version from which a refit starts.

    Args:
        codebooks: Artifacts of the codebooks.
        wanted: Settings of the codebooks.
        seed: Seed for all draws.

    Returns:
        The newest version with the same seed, levels, sizes and kind of last level, None if there is none.
    """
    kinds = ("fsq",) if wanted.last_level == "fsq" else (None, "k-means")  # manifests that name no kind are of k-means
    shape = {name: getattr(wanted, name) for name in ("num_levels", "codebook_size", "fsq_levels")}
    found = [codebooks.find(seed=seed, **shape, last_level=kind) for kind in kinds]
    return max((artifact for artifact in found if artifact), key=lambda artifact: artifact.version, default=None)


def with_popularity(embeddings: DataFrame, interactions: DataFrame, power: float) -> DataFrame:
    """Add the weight of each item in a fit, (1 + number of its positives) ** power, so that new items count too.

    Args:
        embeddings: Rows of ``item_id`` and other columns.
        interactions: Rows of ``item_id`` and ``label``, which is 1 for a positive.
        power: Exponent above 0. With 1, items weigh by their positives; smaller values make weights more equal.

    Returns:
        The rows with ``popularity_weight``, double, at least 1.
    """
    positives = interactions.where(F.col("label") == 1).groupBy("item_id").agg(F.count("*").alias("positives"))
    rows = embeddings.join(positives, on="item_id", how="left")
    weight = F.pow(1 + F.coalesce("positives", F.lit(0)), F.lit(float(power)))
    return rows.withColumn(WEIGHT, weight).drop("positives")


def fit_model(embeddings: DataFrame, estimator: RQEstimator) -> tuple[RQModel, list[dict[str, Any]]]:
    """Fit codebooks without a start.

    Args:
        embeddings: Rows of ``embedding`` (D) of about unit norm, and the column of weights of the estimator.
        estimator: Estimator, see ``quantizer``.

    Returns:
        The model, and its figures per level, see ``level_figures.fitted_levels``.
    """
    model: RQModel = estimator.fit(embeddings)
    return model, fitted_levels(model, embeddings)
