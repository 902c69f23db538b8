"""The HTML report shows the quality of the codes, plots, example items for centroids, and the AUCs of ranking models.

In: the tables and artifacts of a project. Out: ``report.html``, which needs no network, and ``figures.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from qarm_features.evaluation.balance import semantic_id_quality
from qarm_features.ranking.data.popularity import FEW, HEAD_WORDS, TAIL_WORDS, TORSO_WORDS
from qarm_features.report.code_table import code_lines
from qarm_features.report.encoder_rows import control_rows
from qarm_features.semantic_ids.assign import level_sizes
from qarm_features.storage.artifacts import Artifacts, write_json
from qarm_features.storage.moments import Ties
from qarm_features.storage.tables import INTERACTIONS, ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from qarm_features.feature_store.views.feature_views import Release

_CENTROIDS_SHOWN, _TITLES_SHOWN, _BUCKETS_SHOWN = 24, 6, 20


def collect_figures(warehouse: Warehouse, release: Release, *, artifacts: Path) -> dict[str, Any]:
    """Compute the figures of the report over all items. Their number does not grow with the catalog.

    Args:
        warehouse: The tables.
        release: Release that the report describes.
        artifacts: Folder of all artifacts of the project.

    Raises:
        ArtifactError: The codebooks of the release do not exist.
    """
    manifest = Artifacts(artifacts, "codebooks").get(release.codebook_version).manifest
    codes = warehouse.read(ITEM_SEMANTIC_IDS, version=release.delta_version)
    codes = codes.where(F.col("codebook_version") == release.codebook_version).persist()
    titled = codes.join(
        warehouse.read(ITEMS).select("item_id", F.coalesce("title", F.substring("text", 1, 60)).alias("title")),
        on="item_id",
        how="inner",
    )
    sizes = codes.groupBy("rq_codes").agg(F.count("*").alias("items")).groupBy("items").agg(F.count("*").alias("ids"))
    popular = warehouse.read(INTERACTIONS).groupBy("item_id").agg(F.count("*").alias("events"))
    popular = popular.join(codes.select("item_id"), on="item_id", how="left_semi")
    figures = {
        "codebook_version": release.codebook_version,
        "encoder_version": release.encoder_version,
        "num_levels": release.num_levels,
        "codebook_size": release.codebook_size,
        "quality": semantic_id_quality(codes, num_levels=release.num_levels, codebook_size=level_sizes(manifest)),
        "fit": manifest["levels"],
        "bucket_sizes": [row.asDict() for row in sizes.orderBy("items").limit(_BUCKETS_SHOWN).collect()],
        "centroids": _examples(titled),
        "popular_items": [row["item_id"] for row in popular.orderBy(F.desc("events"), "item_id").limit(5).collect()],
        "ranking": ranking_results(artifacts, release.codebook_version),
        "encoders": encoder_evaluation(artifacts),
        "codes": code_evaluations(artifacts),
    }
    codes.unpersist()
    return figures


def ranking_results(artifacts: Path, codebook_version: int) -> list[dict[str, Any]]:
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


def encoder_evaluation(artifacts: Path) -> dict[str, Any] | None:
    """Return the figures of the last ``qarm evaluate-encoder``, or None if it has not run.

    Figures of an earlier version, which took the order of item IDs for that of clicks or did not measure what popularity
    alone reaches, count as not measured.
    """
    path = artifacts / "evaluations" / "encoder.json"
    figures: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return figures if figures and {"ties", "popular"} <= figures.keys() else None


def code_evaluations(artifacts: Path) -> list[dict[str, Any]]:
    """Return the figures of ``qarm evaluate-codes``, in the order of the codebook versions."""
    found = [json.loads(path.read_text()) for path in (artifacts / "evaluations").glob("codes_v*.json")]
    return sorted(found, key=lambda figures: figures["codebook_version"])


def render_report(figures: dict[str, Any], folder: Path) -> Path:
    """Write ``report.html`` and ``figures.json`` into a folder.

    Args:
        figures: Figures from ``collect_figures``.
        folder: Folder to write to. It is made if it does not exist.

    Returns:
        The path of ``report.html``.
    """
    import plotly.graph_objects as go
    from jinja2 import Environment, PackageLoader, select_autoescape

    level_names = [f"level {level['level']}" for level in figures["quality"]["levels"]]
    plots = {
        "Relative error after each level": go.Bar(x=level_names, y=[fit["relative_error"] for fit in figures["fit"]]),
        "Share of centroids in use": go.Bar(x=level_names, y=[lv["code_usage"] for lv in figures["quality"]["levels"]]),
        "Semantic IDs by their number of items": go.Bar(
            x=[size["items"] for size in figures["bucket_sizes"]], y=[size["ids"] for size in figures["bucket_sizes"]]
        ),
    }
    html: list[str] = []
    for title, bars in plots.items():
        figure = go.Figure(bars).update_layout(
            title=title, height=300, margin={"t": 40, "b": 30}, template="plotly_white"
        )
        html.append(figure.to_html(full_html=False, include_plotlyjs=not html))
    pages = Environment(loader=PackageLoader("qarm_features.report"), autoescape=select_autoescape())
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    lines = [dict(code_lines(evaluation)) for evaluation in figures["codes"]]
    ties = figures["encoders"] and Ties(**figures["encoders"]["ties"]).words("positives")
    controls = control_rows(figures["encoders"]) if figures["encoders"] else []
    words = {"head": HEAD_WORDS, "torso": TORSO_WORDS, "tail": TAIL_WORDS, "few": FEW, "ties": ties}
    page.write_text(
        pages.get_template("report.html").render(
            figures=figures, plots=html, code_lines=lines, words=words, encoder_controls=controls
        ),
        encoding="utf-8",
    )
    write_json(folder / "figures.json", figures)
    return page


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
