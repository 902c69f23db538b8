"""One codebook version is measured without a ranking model: by co-clicks, neighborhoods, errors and balance.

In: ``item_semantic_ids``, ``item_embeddings``, the codebooks and ``interactions``. Out: a dict of figures for the terminal
and the report. Balance comes last, because its published correlation with ranking quality is -0.02.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.evaluation.balance import error_quality, semantic_id_quality, shared_ids
from qarm_features.evaluation.co_click_pairs import Period, bought_together, evaluation_period, future_co_clicks
from qarm_features.evaluation.code_behavior import Log, behavior_figures
from qarm_features.evaluation.neighborhoods import neighborhood_overlap
from qarm_features.evaluation.popularity import popularity_slices
from qarm_features.quantizers.arrays.codebooks import level_sizes
from qarm_features.semantic_ids.assign import load_codebooks
from qarm_features.settings.ranking import Ranking
from qarm_features.storage.artifacts import Artifact
from qarm_features.storage.moments import count_ties
from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, ITEM_PAIRS, ITEM_SEMANTIC_IDS
from qarm_features.storage.warehouse import Warehouse


def evaluate_version(
    warehouse: Warehouse, codebooks: Artifact, *, ranking: Ranking, against: int | None = None, **options: Any
) -> dict[str, Any]:
    """Measure a published codebook version on the tables.

    Args:
        warehouse: The tables.
        codebooks: Codebooks of the version.
        ranking: Section ``ranking`` of the settings. Its split gives the period of the co-clicks where no item pairs were
            mined.
        against: Codebook version to compare codes with. The result then has ``shared`` if both have the same number of
            levels.
        options: Arguments ``k``, ``max_pairs``, ``max_queries`` and ``seed`` of ``evaluate_codes``.

    Returns:
        The figures of ``evaluate_codes``, ``codebook_version``, ``encoder_version``, ``num_levels`` and
        ``codebook_size``.

    Raises:
        ValueError: No item has a semantic ID under the version.
    """
    all_versions, version = warehouse.read(ITEM_SEMANTIC_IDS), codebooks.version
    codes = all_versions.where(F.col("codebook_version") == version)
    if codes.isEmpty():
        raise ValueError(
            f"item_semantic_ids has 0 rows of codebook version {version}, must have at least 1. Run: qarm assign-semantic-ids"
        )
    about = {name: codebooks.manifest[name] for name in ("encoder_version", "num_levels", "codebook_size")}
    embeddings = warehouse.read(ITEM_EMBEDDINGS).where(F.col("encoder_version") == about["encoder_version"])
    centroids = load_codebooks(codebooks).codebooks
    assert centroids is not None  # published codebooks are fitted
    interactions, known = warehouse.read(INTERACTIONS), warehouse.read_or_empty(ITEM_PAIRS)
    period = evaluation_period(known, interactions, ranking)
    figures = evaluate_codes(codes, embeddings, centroids, interactions, known, period=period, **options)
    others = all_versions.where((F.col("codebook_version") == against) & (F.size("rq_codes") == about["num_levels"]))
    if against is not None and not others.isEmpty():
        figures["shared"] = {"version": against, **shared_ids(others, codes, num_levels=about["num_levels"])}
    return {"codebook_version": version, **about, **figures}


def evaluate_codes(
    codes: DataFrame,
    embeddings: DataFrame,
    codebooks: np.ndarray,
    interactions: DataFrame,
    known: DataFrame | None = None,
    *,
    period: Period,
    k: int = 10,
    max_pairs: int = 5_000,
    max_queries: int = 1_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure one codebook version on all items that have codes and an embedding.

    Args:
        codes: ``item_id``, ``rq_codes`` of one codebook version.
        embeddings: ``item_id``, ``embedding`` (D) of its encoder version, unit L2 norm.
        codebooks: (L, K, D) float32 centroids.
        interactions: Rows of ``interactions``.
        known: Rows of ``item_pairs``, all from before the period. None if no pairs were mined.
        period: Period of the co-clicks.
        k: Number of nearest items of HitRate@k, at least 1.
        max_pairs: Largest number of co-clicks, and of pairs that were bought together. More are sampled by hash.
        max_queries: Largest number of items whose neighborhoods are compared. More are sampled by hash.
        seed: Seed for sampling co-clicks and query items. With the same seed two versions are measured on the same sample.

    Returns:
        A dict of

        - ``items``, the number of items,
        - ``behavior``, the figures of ``behavior_figures`` for co-clicks, and ``since``, ``period``, ``ties``, ``k``,
          ``chance`` (HitRate@k by chance) and ``bought_together`` (the figures of ``behavior_figures`` for such pairs, None
          without any); or None if there are no co-clicks,
        - ``neighborhoods`` from ``neighborhood_overlap``,
        - ``errors`` from ``error_quality``,
        - ``quality`` and ``quality_weighted`` from ``semantic_id_quality``, the latter weighted by positives.
    """
    clicks = interactions.where(F.col("label") == 1).groupBy("item_id").agg(F.count("*").alias("clicks"))
    rows = codes.select("item_id", "rq_codes").join(
        embeddings.select("item_id", "embedding"), on="item_id", how="inner"
    )
    rows = rows.join(clicks, on="item_id", how="left").fillna(0, subset=["clicks"]).persist()
    sizes = {"num_levels": codebooks.shape[0], "codebook_size": level_sizes(codebooks)}
    items = rows.count()
    if known is None:
        known = interactions.select(F.col("item_id").alias("trigger_item_id"), F.col("item_id").alias("target_item_id"))
        known = known.limit(0)
    behavior = _behavior(rows, codebooks, interactions, known, period=period, k=k, max_pairs=max_pairs, seed=seed)
    figures = {
        "items": items,
        "behavior": None if behavior is None else {**behavior, "chance": min(1.0, k / max(items - 1, 1))},
        "neighborhoods": neighborhood_overlap(rows, codebooks, max_queries=max_queries, seed=seed),
        "errors": error_quality(rows, codebooks, weight="clicks"),
        "quality": semantic_id_quality(rows, **sizes),
        "quality_weighted": semantic_id_quality(rows, **sizes, weight="clicks"),
    }
    rows.unpersist()
    return figures


def _behavior(
    rows: DataFrame,
    codebooks: np.ndarray,
    interactions: DataFrame,
    known: DataFrame,
    *,
    period: Period,
    k: int,
    max_pairs: int,
    seed: int,
) -> dict[str, Any] | None:
    """Return the figures of co-clicks but ``chance``, or None if no co-click has codes for both items."""
    log = Log(popularity_slices(interactions, until=period.since).persist(), known)
    found = []
    for relation in (future_co_clicks, bought_together):
        pairs = relation(interactions, since=period.since, max_pairs=max_pairs, seed=seed).persist()
        found.append(behavior_figures(pairs, rows, codebooks, log, k=k, seed=seed))
        pairs.unpersist()
        if found[0] is None:
            break
    log.slices.unpersist()
    if found[0] is None:
        return None
    return {
        "since": period.since.isoformat(),
        "period": period.words,
        "ties": count_ties(interactions.where(F.col("label") == 1), since=period.since)._asdict(),
        "k": k,
        **found[0],
        "bought_together": found[1],
    }
