"""The HTML report: figures as one page that needs no network, in the light and in the dark.

In: figures from ``qarm_features.report.figures``. Out: ``report.html`` and ``figures.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qarm_features.ranking.data.popularity import FEW, HEAD_WORDS, TAIL_WORDS, TORSO_WORDS
from qarm_features.report.bars import bar_chart
from qarm_features.report.code_table import code_lines
from qarm_features.report.encoder_rows import control_rows
from qarm_features.report.junk_clusters import WORDS
from qarm_features.report.ranking_rows import RankingRow, difference_in_words, seeds_in_words
from qarm_features.storage.artifacts import write_json
from qarm_features.storage.moments import Ties
from qarm_features.storage.objects import AnyPath


def render_report(figures: dict[str, Any], folder: AnyPath) -> AnyPath:
    """Write ``report.html`` and ``figures.json`` into a folder.

    Args:
        figures: Figures from ``collect_figures``.
        folder: Folder to write to. A local one is made if it does not exist.

    Returns:
        The path of ``report.html``.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape

    levels = figures["quality"]["levels"]
    names = [f"level {level['level']}" for level in levels]
    errors, usage = [fit["relative_error"] for fit in figures["fit"]], [level["code_usage"] for level in levels]
    sizes = figures["bucket_sizes"]
    charts = [
        bar_chart("Relative error after each level", names, errors, shown=[f"{error:.3f}" for error in errors]),
        bar_chart("Share of centroids in use", names, usage, shown=[f"{share:.1%}" for share in usage], full=1.0),
        bar_chart(
            "Semantic IDs by their number of items",
            [f"{size['items']:,} item{'s' if size['items'] > 1 else ''}" for size in sizes],
            [size["ids"] for size in sizes],
            shown=[f"{size['ids']:,}" for size in sizes],
        ),
    ]
    rows = [RankingRow(**row) for row in figures["ranking_rows"]]
    said = [words for row in rows if (words := difference_in_words(row))]
    ties = figures["encoders"] and Ties(**figures["encoders"]["ties"]).words("positives")
    page = folder / "report.html"
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    pages = Environment(loader=PackageLoader("qarm_features.report"), autoescape=select_autoescape(), trim_blocks=True)
    page.write_text(
        pages.get_template("report.html").render(
            figures=figures,
            charts=charts,
            code_lines=[dict(code_lines(evaluation)) for evaluation in figures["codes"]],
            words={
                "head": HEAD_WORDS,
                "torso": TORSO_WORDS,
                "tail": TAIL_WORDS,
                "few": FEW,
                "ties": ties,
                "junk": WORDS,
            },
            encoder_controls=control_rows(figures["encoders"]) if figures["encoders"] else [],
            ranking_rows=rows,
            ranking_words=[*said, seeds_in_words(rows)],
        ),
        encoding="utf-8",
    )
    write_json(folder / "figures.json", figures)
    return page
