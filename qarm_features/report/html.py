"""One HTML file that a person opens to see what their codes are: quality, plots, examples per centroid, the AUCs.

In: the tables and artifacts of a project. Out: ``report.html`` (no network needed to view it) and ``figures.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyspark.sql import Window
from pyspark.sql import functions as F

from qarm_features.evaluation.balance import semantic_id_quality
from qarm_features.feature_store.publishing.releases import require_promoted_release
from qarm_features.report.code_table import code_lines
from qarm_features.semantic_ids.assign import level_sizes
from qarm_features.settings.load import Settings
from qarm_features.storage.artifacts import Artifacts, write_json
from qarm_features.storage.tables import INTERACTIONS, ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.storage.warehouse import Warehouse

_CENTROIDS_SHOWN, _TITLES_SHOWN, _BUCKETS_SHOWN = 24, 6, 20


def collect_figures(warehouse: Warehouse, settings: Settings) -> dict[str, Any]:
    """Computes every figure of the report over all items; what comes back is bounded by what a page shows.

    Raises:
        ReleaseError: No release is promoted yet.
    """
    release = require_promoted_release(settings)
    manifest = Artifacts(settings.artifacts_path, "codebooks").get(release.codebook_version).manifest
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
        "popular_items": [r["item_id"] for r in popular.orderBy(F.desc("events"), "item_id").limit(5).collect()],
        "ranking": ranking_results(settings, release.codebook_version),
        "encoders": encoder_evaluation(settings),
        "codes": code_evaluations(settings),
    }
    codes.unpersist()
    return figures


def ranking_results(settings: Settings, codebook_version: int) -> list[dict[str, Any]]:
    """Returns the metrics of every ranking model trained on a codebook version, the newest of each variant and seed."""
    models = Artifacts(settings.artifacts_path, "ranking_models")
    found = {}
    for version in models.versions():
        manifest = models.get(version).manifest
        if manifest["codebook_version"] == codebook_version:
            found[manifest["variant"], manifest["seed"]] = manifest
    names = ("variant", "seed", "version", "metrics")
    return [{name: manifest[name] for name in names} for _, manifest in sorted(found.items())]


def encoder_evaluation(settings: Settings) -> dict[str, Any] | None:
    """Returns the figures of the last ``evaluate-encoder``, or None."""
    path = settings.artifacts_path / "evaluations" / "encoder.json"
    return json.loads(path.read_text()) if path.is_file() else None


def code_evaluations(settings: Settings) -> list[dict[str, Any]]:
    """Returns the figures of ``evaluate-codes``, by codebook version."""
    found = [json.loads(path.read_text()) for path in (settings.artifacts_path / "evaluations").glob("codes_v*.json")]
    return sorted(found, key=lambda figures: figures["codebook_version"])


def render_report(figures: dict[str, Any], folder: Path) -> Path:
    """Writes ``report.html`` and ``figures.json`` into ``folder`` and returns the page's path."""
    import plotly.graph_objects as go
    from jinja2 import Environment, PackageLoader, select_autoescape

    level_names = [f"level {level['level']}" for level in figures["quality"]["levels"]]
    plots = {
        "Relative error after each level": go.Bar(x=level_names, y=[fit["relative_error"] for fit in figures["fit"]]),
        "Share of centroids in use": go.Bar(x=level_names, y=[lv["code_usage"] for lv in figures["quality"]["levels"]]),
        "Items that share one semantic ID": go.Bar(
            x=[size["items"] for size in figures["bucket_sizes"]], y=[size["ids"] for size in figures["bucket_sizes"]]
        ),
    }
    html = []
    for title, bars in plots.items():
        figure = go.Figure(bars).update_layout(
            title=title, height=300, margin={"t": 40, "b": 30}, template="plotly_white"
        )
        html.append(figure.to_html(full_html=False, include_plotlyjs=not html))
    pages = Environment(loader=PackageLoader("qarm_features.report"), autoescape=select_autoescape())
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    lines = [dict(code_lines(of)) for of in figures["codes"]]
    page.write_text(pages.get_template("report.html").render(figures=figures, plots=html, code_lines=lines))
    write_json(folder / "figures.json", figures)
    return page


def _examples(titled) -> list[dict[str, Any]]:
    """The largest centroids of level 0 with a few titles each."""
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
