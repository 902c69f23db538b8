"""Compares the items that came since the promoted release's codebooks were fitted with those of the fit.

In: ``item_semantic_ids``, ``item_embeddings``, ``interactions``, codebooks. Out: a table on the terminal, JSON, and exit
code 1 past a limit.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pyspark.sql import functions as F

from qarm_features.evaluation.fit_drift import fit_drift
from qarm_features.evaluation.refit_advice import past_limits, verdicts
from qarm_features.evaluation.score_drift import score_drift
from qarm_features.evaluation.unseen_items import unseen_items
from qarm_features.feature_store.publishing.releases import require_promoted_release
from qarm_features.jobs.context import JobContext, require_codebooks_of
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import EVALUATIONS, RELEASES
from qarm_features.report.drift_table import drift_table
from qarm_features.semantic_ids.assign import load_codebooks
from qarm_features.settings.monitor import Monitor
from qarm_features.storage.artifacts import write_json
from qarm_features.storage.origins import require_embeddings_of
from qarm_features.storage.tables import INTERACTIONS, ITEM_EMBEDDINGS, ITEM_SEMANTIC_IDS
from qarm_features.terminal import plain_console


@job(
    after="publish-features",
    reads=("item_semantic_ids", "item_embeddings", "interactions", "codebooks/", RELEASES),
    writes=(EVALUATIONS,),
    settings=("monitor",),
)
def monitor(
    context: JobContext,
    fail: Annotated[bool, typer.Option(help="End with exit code 1 past a limit of the section monitor.")] = True,
) -> Counts:
    """Says if a refit pays: it compares the items that came since the fit with those of the fit.

    The figures are the error of their codes, how they spread over the codebooks, how many have a semantic ID of their own,
    and how many of the log's latest rows name an item that the promoted release lacks. With monitor.scores it also compares
    the latest scores of a ranking model with the earlier ones. Each figure stands beside its limit and the number of rows it
    rests on. Exit code 1 past a limit lets a scheduler act.
    """
    release = require_promoted_release(context.settings)
    require_codebooks_of(context, release)
    warehouse, codebooks = context.warehouse, context.artifacts("codebooks").get(release.codebook_version)
    require_embeddings_of(warehouse, codebooks)
    assigned = warehouse.read(ITEM_SEMANTIC_IDS, version=release.delta_version)
    assigned = assigned.where(F.col("codebook_version") == release.codebook_version)
    codes = assigned.select("item_id", "rq_codes", F.coalesce("added_after_fit", F.lit(False)).alias("added_after_fit"))
    encoded = warehouse.read(ITEM_EMBEDDINGS).where(F.col("encoder_version") == release.encoder_version)
    rows = codes.join(encoded.select("item_id", "embedding"), on="item_id", how="inner")
    centroids = load_codebooks(codebooks).codebooks
    assert centroids is not None  # published codebooks are fitted
    at_fit = codebooks.manifest["levels"][-1].get("relative_error")
    drift = fit_drift(rows, centroids, error_at_fit=at_fit)
    limits = context.settings.monitor
    unseen = unseen_items(warehouse.read(INTERACTIONS), codes, days=limits.log_days)
    scores = _scores(context, limits)
    found = verdicts(drift, unseen, limits, scores)
    plain_console().print(drift_table(drift, found, codebook_version=release.codebook_version))
    path = context.settings.artifacts_path / "evaluations" / f"drift_v{release.codebook_version}.json"
    figures = {"codebook_version": release.codebook_version, **drift, "unseen": unseen, "scores": scores}
    write_json(path, {**figures, "verdicts": [one._asdict() for one in found]})
    past = past_limits(found)
    items = drift["items"] + drift["new_items"]
    remark = f"past its limit: {'; '.join(one.what for one in past)}" if past else "no limit is passed"
    return Counts(items, items, 0, remark, exit_code=int(bool(past) and fail))


def _scores(context: JobContext, limits: Monitor) -> dict[str, Any] | None:
    source = limits.scores
    if source is None:
        return None
    path = None if source.path is None else context.settings.path(source.path)
    return score_drift(context.spark, source, path, days=limits.log_days)
