"""Writes the report.

In: tables, codebooks, ranking models and evaluations. Out: one HTML file for people, and its figures as JSON.
"""

from __future__ import annotations

from qarm_features.feature_store.publishing.releases import require_promoted_release
from qarm_features.jobs.context import JobContext, require_codebooks_of
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import EVALUATIONS, RELEASES, REPORT
from qarm_features.report.html import collect_figures, render_report


@job(
    after="publish-features",
    reads=("items", "item_semantic_ids", RELEASES, "codebooks/", "ranking_models/", EVALUATIONS),
    writes=(REPORT,),
)
def write_report(context: JobContext) -> Counts:
    """Writes report.html: the quality of the promoted codebooks, examples per centroid, and the AUC of the ranking models."""
    artifacts = context.settings.artifacts_path
    release = require_promoted_release(context.settings)
    require_codebooks_of(context, release)
    figures = collect_figures(context.warehouse, release, artifacts=artifacts)
    path = render_report(figures, artifacts / "report")
    return Counts(figures["quality"]["items"], figures["quality"]["items"], 0, str(path))
