"""Builds the rows that ranking models train on.

In: ``interactions``, the views of the promoted release. Out: ``training_rows``.
"""

from __future__ import annotations

from dataclasses import asdict

from pyspark.sql import functions as F

from qarm_features.feature_store.publishing.releases import require_promoted_release
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.jobs.context import JobContext, require_codebooks_of
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import RELEASES
from qarm_features.storage.tables import INTERACTIONS, ITEM_COUNTERS, TRAINING_ROWS, USER_BEHAVIOR, USER_IMPRESSIONS
from qarm_features.training.time_split import SPLIT_SETTINGS, split_moments
from qarm_features.training.training_set import training_rows

_LOG_TABLES = (INTERACTIONS, USER_BEHAVIOR, USER_IMPRESSIONS, ITEM_COUNTERS)


@job(
    after="publish-features",
    reads=("interactions", "item_semantic_ids", "user_behavior", "user_impressions", "item_counters", RELEASES),
    writes=("training_rows",),
    settings=(*SPLIT_SETTINGS, "ranking.point_in_time", "behavior.impression_length"),
)
def build_training_set(context: JobContext) -> Counts:
    """Joins to every labeled impression its features as they were just before it.

    The Delta commit records the release and the versions of the tables that the rows were made from.
    """
    settings, warehouse = context.settings, context.warehouse
    release = require_promoted_release(settings)
    require_codebooks_of(context, release)
    made_from = {"release": asdict(release), "delta_versions": {t.name: warehouse.version(t) for t in _LOG_TABLES}}
    interactions = warehouse.read(INTERACTIONS)
    rows = training_rows(
        interactions,
        store=open_feature_store(settings.feature_repo_path),
        release=release,
        cuts=split_moments(interactions, settings.ranking),
        with_impressions=settings.behavior.impression_length > 0,
        point_in_time=settings.ranking.point_in_time,
    )
    version = f"codebook_version = {release.codebook_version}"
    warehouse.overwrite(TRAINING_ROWS, rows, where=version, made_from=made_from)
    rows_in, written = interactions.count(), warehouse.read(TRAINING_ROWS).where(version)
    splits = {row["split"]: row["count"] for row in written.groupBy("split").agg(F.count("*").alias("count")).collect()}
    rows_out = sum(splits.values())
    if rows_out != rows_in:
        raise ValueError(
            f"training_rows has {rows_out:,} rows, must be {rows_in:,}, as interactions has. Please report this as a bug."
        )
    remark = ", ".join(f"{split} {splits.get(split, 0)}" for split in ("train", "valid", "test"))
    return Counts(rows_in, rows_out, 0, remark)
