"""The figures of the report: quality of the codes, example items, junk clusters, rejected rows, AUCs of ranking models.

In: the tables and artifacts of a project. Out: a dict of plain values, of a size that does not grow with the catalog.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.evaluation.balance import semantic_id_quality
from qarm_features.report.junk_clusters import junk_clusters
from qarm_features.report.prefix_neighbors import item_cards
from qarm_features.report.ranking_rows import ranking_rows, without_draws
from qarm_features.semantic_ids.assign import level_sizes
from qarm_features.storage.artifacts import Artifacts
from qarm_features.storage.objects import AnyPath
from qarm_features.storage.tables import INTERACTIONS, ITEM_SEMANTIC_IDS, ITEMS, REJECTED_ROWS
from qarm_features.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from qarm_features.feature_store.views.feature_views import Release

_CENTROIDS_SHOWN, _TITLES_SHOWN, _BUCKETS_SHOWN, _REASONS_SHOWN, _ITEMS_SHOWN, _NEIGHBORS_SHOWN = 24, 6, 20, 30, 5, 3


def collect_figures(warehouse: Warehouse, release: Release, *, artifacts: AnyPath, project: str) -> dict[str, Any]:
    """Compute the figures of the report over all items. Their number does not grow with the catalog.

    Args:
        warehouse: The tables.
        release: Release that the report describes.
        artifacts: Folder of all artifacts of the project.
        project: Name of the project.

    Raises:
        ArtifactError: The codebooks of the release do not exist.
    """
    manifest = Artifacts(artifacts, "codebooks").get(release.codebook_version).manifest
    codes = warehouse.read(ITEM_SEMANTIC_IDS, version=release.delta_version)
    codes = codes.where(F.col("codebook_version") == release.codebook_version).persist()
    items = warehouse.read(ITEMS)
    titled = codes.join(
        items.select("item_id", F.coalesce("title", F.substring("text", 1, 60)).alias("title")),
        on="item_id",
        how="inner",
    )
    sizes = codes.groupBy("rq_codes").agg(F.count("*").alias("items")).groupBy("items").agg(F.count("*").alias("ids"))
    popular = warehouse.read(INTERACTIONS).groupBy("item_id").agg(F.count("*").alias("events"))
    popular = popular.join(codes.select("item_id"), on="item_id", how="left_semi")
    shown = [row["item_id"] for row in popular.orderBy(F.desc("events"), "item_id").limit(_ITEMS_SHOWN).collect()]
    encoders, models = encoder_evaluation(artifacts), ranking_results(artifacts, release.codebook_version)
    figures = {
        "project": project,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "codebook_version": release.codebook_version,
        "encoder_version": release.encoder_version,
        "num_levels": release.num_levels,
        "codebook_size": release.codebook_size,
        "quality": semantic_id_quality(codes, num_levels=release.num_levels, codebook_size=level_sizes(manifest)),
        "fit": manifest["levels"],
        "bucket_sizes": [row.asDict() for row in sizes.orderBy("items").limit(_BUCKETS_SHOWN).collect()],
        "centroids": _examples(titled),
        "popular_items": shown,
        "items": example_items(warehouse, shown, codebook_version=release.codebook_version),
        "frozen_codes": _frozen_codes(warehouse, shown, artifacts=artifacts, encoders=encoders, manifest=manifest),
        "junk_clusters": junk_clusters(codes, items, num_levels=release.num_levels),
        "rejected_rows": rejected_by_reason(warehouse),
        "ranking": without_draws(models),
        "ranking_rows": [row._asdict() for row in ranking_rows(models)],
        "encoders": encoders,
        "codes": code_evaluations(artifacts),
    }
    codes.unpersist()
    return figures


def example_items(warehouse: Warehouse, item_ids: list[int | str], *, codebook_version: int) -> list[dict[str, Any]]:
    """Return items with their codes and their nearest items by prefix, as plain values.

    Args:
        warehouse: The tables.
        item_ids: IDs of the items.
        codebook_version: Version of the codes.
    """
    cards = item_cards(warehouse, item_ids, codebook_version=codebook_version, num_neighbors=_NEIGHBORS_SHOWN)
    return [{**card._asdict(), "neighbors": [neighbor._asdict() for neighbor in card.neighbors]} for card in cards]


def rejected_by_reason(warehouse: Warehouse, *, most: int = _REASONS_SHOWN) -> list[dict[str, Any]]:
    """Count the rejected rows by table and reason, the most frequent reasons first.

    Args:
        warehouse: The tables.
        most: Highest number of reasons.

    Returns:
        ``table``, ``reason`` and ``rows`` of each.
    """
    rows = warehouse.read_or_empty(REJECTED_ROWS).groupBy("table", "reason").agg(F.count("*").alias("rows"))
    return [row.asDict() for row in rows.orderBy(F.desc("rows"), "table", "reason").limit(most).collect()]


def _frozen_codes(
    warehouse: Warehouse,
    item_ids: list[int | str],
    *,
    artifacts: AnyPath,
    encoders: dict[str, Any] | None,
    manifest: dict[str, Any],
) -> dict[str, Any] | None:
    """Return the codes of the frozen encoder, which ``qarm run --compare`` makes; None without such codebooks."""
    frozen = encoders and encoders["frozen"]
    if frozen is None or frozen == manifest["encoder_version"]:
        return None
    alike = {name: manifest[name] for name in ("seed", "num_levels", "codebook_size")}
    found = Artifacts(artifacts, "codebooks").find(encoder_version=frozen, **alike)
    if found is None:
        return None
    codes = warehouse.read(ITEM_SEMANTIC_IDS).where(F.col("codebook_version") == found.version)
    having = {row["item_id"] for row in codes.where(F.col("item_id").isin(item_ids)).select("item_id").collect()}
    items = example_items(warehouse, [one for one in item_ids if one in having], codebook_version=found.version)
    return {"codebook_version": found.version, "encoder_version": frozen, "items": items}


def ranking_results(artifacts: AnyPath, codebook_version: int) -> list[dict[str, Any]]:
    """Return the metrics of the ranking models that were trained on a codebook version.

    Args:
        artifacts: Folder of all artifacts of the project.
        codebook_version: Codebook version of the models.

    Returns:
        ``variant``, ``seed``, ``version`` and ``metrics`` of the newest model of each variant and seed, in this order.
    """
    models = Artifacts(artifacts, "ranking_models")
    found = {}
    for version in models.versions():
        manifest = models.get(version).manifest
        if manifest["codebook_version"] == codebook_version:
            found[manifest["variant"], manifest["seed"]] = manifest
    names = ("variant", "seed", "version", "metrics")
    return [{name: manifest[name] for name in names} for _, manifest in sorted(found.items())]


def encoder_evaluation(artifacts: AnyPath) -> dict[str, Any] | None:
    """Return the figures of the last ``qarm evaluate-encoder``, or None if it has not run.

    Figures of an earlier version, which took the order of item IDs for that of clicks or did not measure what popularity
    alone reaches, count as not measured.
    """
    path = artifacts / "evaluations" / "encoder.json"
    figures: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return figures if figures and {"ties", "popular"} <= figures.keys() else None


def code_evaluations(artifacts: AnyPath) -> list[dict[str, Any]]:
    """Return the figures of ``qarm evaluate-codes``, in the order of the codebook versions."""
    found = [json.loads(path.read_text()) for path in (artifacts / "evaluations").glob("codes_v*.json")]
    return sorted(found, key=lambda figures: figures["codebook_version"])


def _examples(titled: DataFrame) -> list[dict[str, Any]]:
    """Return the largest centroids of level 0 with a few titles each.

    Args:
        titled: Columns ``item_id``, ``rq_codes`` and ``title``.
    """
    level_0 = titled.withColumn("code", F.col("rq_codes")[0])
    rank = F.row_number().over(Window.partitionBy("code").orderBy(F.xxhash64("item_id"), "item_id"))
    rows = (
        level_0.withColumn("rank", rank)
        .groupBy("code")
        .agg(
            F.count("*").alias("items"),
            F.sort_array(F.collect_list(F.when(F.col("rank") <= _TITLES_SHOWN, F.col("title")))).alias("titles"),
        )
    )
    largest = rows.orderBy(F.desc("items"), "code").limit(_CENTROIDS_SHOWN)
    return [row.asDict() for row in largest.collect()]
