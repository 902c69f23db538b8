"""All that was made so far -> one HTML file for people, and its figures as JSON."""

from __future__ import annotations

from qarm_features.report import collect_figures, render_report
from spark_jobs.session import Counts, JobContext, job, main


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


if __name__ == "__main__":
    main(write_report)
