"""All that was made so far -> one HTML file for people, and its figures as JSON."""

from __future__ import annotations

from qarm_features.jobs.session import Counts, JobContext, job
from qarm_features.report.html import collect_figures, render_report


@job(
    after="publish-features",
    reads=("items", "item_semantic_ids", "releases/", "codebooks/", "ranking_models/", "evaluations/"),
    writes=("report/",),
)
def write_report(context: JobContext) -> Counts:
    """Writes report.html: quality of the promoted codebooks, examples per centroid, AUC with and without semantic IDs."""
    figures = collect_figures(context.warehouse, context.settings)
    path = render_report(figures, context.settings.artifacts_path / "report")
    return Counts(figures["quality"]["items"], figures["quality"]["items"], 0, str(path))
