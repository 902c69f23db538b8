"""Builds the explorer's data.

In: tables, codebooks, ranking models and evaluations of the promoted release. Out: a version of ``explorers``, which
``qarm explore`` shows.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from qarm_features.explorer.computing.write_explorer import write_explorer
from qarm_features.explorer.schema import FILE
from qarm_features.feature_store.publishing.releases import require_promoted_release
from qarm_features.jobs.context import JobContext, require_codebooks_of
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import EVALUATIONS, RELEASES
from qarm_features.storage.drafts import DRAFT
from qarm_features.storage.origins import require_embeddings_of

log = logging.getLogger("qarm")


@job(
    after="publish-features",
    reads=(
        "items",
        "interactions",
        "rejected_rows",
        "item_embeddings",
        "item_semantic_ids",
        "user_behavior",
        "training_rows",
        RELEASES,
        "codebooks/",
        "ranking_models/",
        EVALUATIONS,
    ),
    writes=("explorers/",),
    settings=("explorer", "nearest_items", "encoder", "seed"),
)
def build_explorer(context: JobContext) -> Counts:
    """Computes what the explorer shows of the promoted release, and writes it into one file of artifacts/explorers/v<n>.

    Sizes of prefixes count the whole catalog. Of a catalog above explorer.max_items, a sample by hash is shown. On several
    machines, artifacts must be a URI, or a folder that all of them reach.
    """
    settings = context.settings
    release = require_promoted_release(settings)
    require_codebooks_of(context, release)
    require_embeddings_of(context.warehouse, context.artifacts("codebooks").get(release.codebook_version))
    versions = context.artifacts("explorers")
    with tempfile.TemporaryDirectory(dir=versions.drafts(), prefix=DRAFT) as draft:
        built = write_explorer(Path(draft), context.warehouse, release, settings=settings)
        version = versions.publish(
            lambda folder: os.rename(Path(draft) / FILE, folder / FILE),
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            release=release.view_name,
            **dataclasses.asdict(release),
            items=built.items,
            shown_items=built.shown_items,
            users=built.users,
            scored_by=built.scored_by,
            settings=settings.explorer.model_dump(),
            seed=settings.seed,
        )
    for old in versions.versions()[: -settings.explorer.kept_versions]:
        versions.remove(old)
        log.info("explorers v%d is deleted, explorer.kept_versions is %d.", old, settings.explorer.kept_versions)
    sample = "all" if built.shown_items == built.items else "a sample by hash"
    remark = f"{sample} of them shown, {built.users} users; explorers v{version.version}; look at it: qarm explore"
    return Counts(built.items, built.shown_items, built.items - built.shown_items, remark)
