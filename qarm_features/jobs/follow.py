"""Serves files as they arrive.

In: files that are added to the folders of the catalog and of the click log; the promoted release. Out: new and changed items
in all tables and in the promoted release's view, seconds after their file arrived.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from qarm_features.catalog.reading.some_files import paths_of
from qarm_features.feature_store.publishing.increment import require_increments
from qarm_features.feature_store.publishing.named_versions import keep_readable
from qarm_features.feature_store.publishing.release_manifest import require_promoted_release
from qarm_features.feature_store.views.feature_views import open_feature_store
from qarm_features.following.follower import Follower
from qarm_features.following.item_batches import ItemBatches
from qarm_features.following.metrics import served_metrics
from qarm_features.following.source_files import arriving_files
from qarm_features.following.stream import asked_to_stop, follow_stream
from qarm_features.jobs.context import JobContext, require_codebooks_of
from qarm_features.jobs.ingest_catalog import ingest_catalog
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.project_lock import held_besides
from qarm_features.jobs.skipping import last_run
from qarm_features.jobs.states import RELEASES, UNKNOWN
from qarm_features.settings.load import Settings
from qarm_features.telemetry.sinks import Sinks
from qarm_features.telemetry.stage_log import BATCHES
from qarm_features.telemetry.stage_run import StageRun

# Jobs whose tables a follower writes. None of them may run beside it.
_DONE_HERE = ("ingest_catalog", "embed_items", "assign_semantic_ids", "build_user_behavior", "publish_features")
_TABLES = (
    *("items", "deleted_items", "item_embeddings", "item_semantic_ids"),
    *("interactions", "user_behavior", "user_impressions", "item_counters"),
)
log = logging.getLogger(__name__)


@dataclass
class _Totals:
    """Sums over the batches of a follower."""

    batches: int = 0
    rows_in: int = 0
    rejected: int = 0
    lag: float = 0.0

    def add(self, run: StageRun) -> None:
        """Add a batch."""
        self.batches += 1
        self.rows_in += run.rows_in or 0
        self.rejected += run.rows_rejected or 0
        self.lag = max(self.lag, run.lag_seconds or 0.0)


@job(
    after="publish-features",
    reads=("your catalog and click log", "encoders/", "codebooks/", RELEASES, *_TABLES),
    writes=(*_TABLES, "rejected_rows", "published_keys", RELEASES),
    settings=("items", "interactions", "encoder", "semantic_ids", "follow"),
)
def follow(
    context: JobContext,
    once: Annotated[
        bool, typer.Option("--once", help="Take up the files that are there and end, for a scheduler.")
    ] = False,
    trigger_seconds: Annotated[
        float | None, typer.Option(help="Seconds between two looks for new files; follow.trigger_seconds by default.")
    ] = None,
) -> Counts:
    """Serves new and changed items soon after their files arrive, without a run over everything.

    Files that are added to the folder of the catalog are checked, embedded, assigned by the codebooks of the promoted release
    and written online. A semantic ID that an item has stays. Ctrl-C and SIGTERM end it after the present batch.
    """
    settings, seconds = context.settings, trigger_seconds or context.settings.follow.trigger_seconds
    if seconds <= 0:
        raise ValueError(f"--trigger-seconds is {trigger_seconds}, must be above 0. Use --once to look once.")
    release = require_promoted_release(settings)
    require_codebooks_of(context, release)
    encoder = context.artifacts("encoders").get(release.encoder_version).verify()
    codebooks = context.artifacts("codebooks").get(release.codebook_version)
    store = open_feature_store(settings.feature_repo_path)
    require_increments(store)
    if settings.publishing.embeddings or settings.publishing.nearest_items:
        log.warning("WARNING: Item embeddings and VQ codes of new items are published by the next qarm run.")
    folder = settings.state_path / "follow"
    if settings.follow.checkpoint is not None:
        folder = Path(settings.path(settings.follow.checkpoint))
    totals, sinks = _Totals(), Sinks(settings, log=BATCHES)
    with (
        held_besides(settings, "qarm follow", _DONE_HERE),
        asked_to_stop() as stop,
        served_metrics(settings.follow.metrics_address, settings.follow.metrics_port) as tell_metrics,
    ):

        def tell(run: StageRun) -> None:
            totals.add(run)
            tell_metrics(run)
            sinks.ended(run)

        items = ItemBatches(settings, context.warehouse, encoder, codebooks)
        follower = Follower(context.spark, settings, store, items, folder, _ingested(settings), stop, tell)
        keep_readable(context.spark, settings)
        found = follower.catch_up()
        log.info("%s is followed, %s items of it were missing online", release.view_name, f"{found.written:,}")
        follow_stream(
            arriving_files(context.spark, settings),
            follower.take_up,
            checkpoint=folder / "checkpoint",
            trigger_seconds=None if once else seconds,
            stop=stop,
        )
    remark = f"{totals.batches} batches, longest lag {totals.lag:.1f} s" if totals.batches else "no files arrived"
    return Counts(totals.rows_in, totals.rows_in - totals.rejected, totals.rejected, remark)


def _ingested(settings: Settings) -> set[tuple[str, int]]:
    """Returns the files that the last ``qarm run`` ingested, by path and time of change in milliseconds.

    It is empty where no run is recorded or the files cannot be listed. Files are taken up again then, which changes
    nothing that stands in the tables.
    """
    record = last_run(ingest_catalog, settings)
    found = set()
    for source in (settings.items, settings.interactions):
        seen = None if record is None or source.path is None else record["inputs"].get(source.path)
        if seen is None or seen == UNKNOWN:
            continue
        paths = paths_of(settings.path(source.path or ""), (name for name, *_ in seen))
        found |= {(path, nanoseconds // 1_000_000) for path, (_, _, nanoseconds, *_) in zip(paths, seen)}
    return found
