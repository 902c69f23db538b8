"""Writes the report.

In: tables, codebooks, ranking models and evaluations. Out: one HTML file for people, and its figures as JSON.
"""

from __future__ import annotations

from pathlib import Path

from qarm_features.feature_store.publishing.releases import require_promoted_release
from qarm_features.jobs.context import JobContext, require_codebooks_of
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import EVALUATIONS, RELEASES, REPORT
from qarm_features.report.figures import collect_figures
from qarm_features.report.html import render_report


@job(
    after="publish-features",
    reads=("items", "item_semantic_ids", "rejected_rows", RELEASES, "codebooks/", "ranking_models/", EVALUATIONS),
    writes=(REPORT,),
)
def write_report(context: JobContext) -> Counts:
    """Writes report.html: quality and examples of the promoted codes, junk clusters, rejected rows, and AUCs of models."""
    artifacts = context.settings.artifacts_path
    release = require_promoted_release(context.settings)
    require_codebooks_of(context, release)
    project = Path(context.settings.path(".")).resolve().name
    figures = collect_figures(context.warehouse, release, artifacts=artifacts, project=project)
    path = render_report(figures, artifacts / "report")
    return Counts(figures["quality"]["items"], figures["quality"]["items"], 0, str(path))
