"""What is explored, in numbers.

In: the prefixes of a release, and the tables. Out: ``contract.Summary`` without the time at which it was made.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from qarm_features.explorer.computing.releases import PastRelease
from qarm_features.feature_store.views.repo_config import read_repo_config
from qarm_features.report.figures import rejected_by_reason
from qarm_features.settings.load import Settings
from qarm_features.storage.warehouse import Warehouse

_REASONS = 20


def summary(
    warehouse: Warehouse,
    tree: DataFrame,
    now: PastRelease,
    *,
    settings: Settings,
    codebook_sizes: list[int],
    **more: Any,
) -> dict[str, Any]:
    """Return the summary.

    Args:
        warehouse: The tables.
        tree: Rows of ``prefixes``.
        now: The release.
        settings: Settings of the project.
        codebook_sizes: Number of centroids of each level.
        more: Further values: ``shown_items``, ``users`` and ``releases``.
    """
    release = now.release
    leaves = tree.where(F.size("prefix") == release.num_levels)
    levels = [F.count_distinct(F.col("prefix")[level]).alias(f"used_{level}") for level in range(release.num_levels)]
    counts = leaves.agg(
        F.coalesce(F.sum("items"), F.lit(0)).alias("items"),
        F.count("*").alias("ids"),
        F.coalesce(F.sum(F.when(F.col("items") > 1, F.col("items"))), F.lit(0)).alias("colliding"),
        *levels,
    ).first()
    assert counts is not None  # an aggregate without a key has one row
    return {
        "project": read_repo_config(settings.feature_repo_path).project,
        "release": release.view_name,
        "published_at": now.published_at,
        "codebook_version": release.codebook_version,
        "encoder_version": release.encoder_version,
        "num_levels": release.num_levels,
        "codebook_sizes": codebook_sizes,
        "items": counts["items"],
        "distinct_ids": counts["ids"],
        "colliding_items": counts["colliding"],
        "rejected": [
            (one["table"], one["reason"], one["rows"]) for one in rejected_by_reason(warehouse, most=_REASONS)
        ],
        "level_uses": [(counts[f"used_{level}"], size) for level, size in enumerate(codebook_sizes)],
        **more,
    }
