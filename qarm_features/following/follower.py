"""The follower: what happens with the files of one batch, from ingest to the online store.

In: files that arrived. Out: rows in the tables and online, and the record of the batch with its lag. Each step writes the
same in a second attempt, so that a process may be killed at any moment and started again.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from feast import FeatureStore
from pyspark.sql import DataFrame, SparkSession

from qarm_features.feature_store.publishing.increment import Increment, publish_increment
from qarm_features.feature_store.publishing.log_increment import publish_log_increment
from qarm_features.feature_store.publishing.publisher_lease import LeaseError
from qarm_features.feature_store.publishing.release_manifest import require_promoted_release
from qarm_features.feature_store.views.feature_views import Release
from qarm_features.following.arrivals import Arrivals, read_interactions, read_items, write_rejected_rows
from qarm_features.following.batch_plan import BatchPlan, planned, writer_name
from qarm_features.following.behavior_batches import BehaviorBatches
from qarm_features.following.item_batches import ItemBatches, ItemCounts, items_without_ids
from qarm_features.following.source_files import FollowError, SourceFile, files_of
from qarm_features.settings.load import Settings
from qarm_features.storage.change_feed import keep_change_feed
from qarm_features.storage.tables import ITEM_SEMANTIC_IDS, ITEMS
from qarm_features.telemetry.stage_run import StageRun

STAGE = "follow"
_AGAIN_SECONDS = 1.0
_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class BatchResult(NamedTuple):
    """What a batch did.

    Attributes:
        rows_in: Number of rows of its files.
        rejected: Number of those that were rejected.
        by_reason: Number of rows that ingest rejected, by reason.
        release: The promoted release afterwards.
        words: A clause for people.
    """

    rows_in: int
    rejected: int
    by_reason: dict[str, int]
    release: Release
    words: str


@dataclass(frozen=True)
class Follower:
    """Takes up files and serves their rows.

    Attributes:
        spark: Session that does the work.
        settings: Settings of the project.
        store: Feature store.
        items: Writes items to the tables of the promoted release.
        folder: Folder of the follower's records.
        ingested: ``SourceFile.seen_as`` of files whose rows stand in the tables already.
        stop: Event after which a batch does not wait for another publisher.
        tell: Function that is told of the record of each batch.
    """

    spark: SparkSession
    settings: Settings
    store: FeatureStore
    items: ItemBatches
    folder: Path
    ingested: Collection[tuple[str, int]]
    stop: threading.Event
    tell: Callable[[StageRun], None]

    def catch_up(self) -> Increment:
        """Serve what stands in ``items`` and is not served, for example after a job that was run by hand.

        Returns:
            What was published.
        """
        warehouse, codebooks = self.items.warehouse, self.items.codebooks
        keep_change_feed(self.spark, warehouse.path(ITEM_SEMANTIC_IDS))
        self.items.delete_deleted()
        missing = items_without_ids(warehouse, codebooks).persist()
        try:
            if warehouse.exists(ITEMS) and not missing.isEmpty():
                self.items.embed_and_assign(missing, replace_rejected=True)
        finally:
            missing.unpersist()
        return self._publish(lambda: publish_increment(self.spark, self.settings, self.store, compare=True))

    def take_up(self, rows: DataFrame, batch: int) -> None:
        """Work off a batch of the stream.

        Args:
            rows: Rows of ``arriving_files``.
            batch: Number of the batch, from 0.

        Raises:
            FollowError: Another release was promoted since the follower started.
        """
        files = files_of(rows, self.ingested)
        if not files:
            return
        self._require_same_release()
        run = StageRun.begun(STAGE, self.settings.warehouse_path)
        done = self._work_off(files, batch)
        lag = time.time() - min(file.modified for file in files) / 1000
        remark = f"batch {batch}: {len(files)} files, {done.words}, lag {lag:.1f} s"
        _log.info("%s: %s rows in, %s rejected", remark, f"{done.rows_in:,}", f"{done.rejected:,}")
        self.tell(
            dataclasses.replace(
                run,
                state="succeeded",
                ended_at=datetime.now(UTC),
                rows_in=done.rows_in,
                rows_out=done.rows_in - done.rejected,
                rows_rejected=done.rejected,
                rejected_by_reason=done.by_reason,
                written={ITEM_SEMANTIC_IDS.name: done.release.delta_version},
                lag_seconds=lag,
                remark=remark,
            )
        )

    def _work_off(self, files: Sequence[SourceFile], batch: int) -> BatchResult:
        warehouse, writer = self.items.warehouse, writer_name(self.folder)
        plan = planned(self.folder, batch, warehouse)
        catalog = read_items(self.spark, self.settings, [file for file in files if file.section == ITEMS.name])
        log = read_interactions(self.spark, self.settings, [file for file in files if file.section != ITEMS.name])
        try:
            counts = ItemCounts()
            for checked, _ in catalog.parts:
                counts += self.items.write(checked, plan)
            write_rejected_rows(warehouse, catalog, writer=writer, batch=batch)
            items = self._publish(lambda: publish_increment(self.spark, self.settings, self.store, compare=False))
            clicks, users, served = self._work_off_clicks(log, plan)
            write_rejected_rows(warehouse, log, writer=writer, batch=batch)
        finally:
            catalog.release()
            log.release()
        words = (
            f"{counts.new:,} new items, {counts.changed:,} changed, {counts.assigned:,} semantic IDs assigned, "
            f"{counts.reassigned:,} reassigned, {counts.deleted:,} deleted, {items.written:,} items written online; "
            f"{clicks:,} new clicks of {users:,} users, {served:,} rows of behavior written online"
        )
        reasons = catalog.by_reason + log.by_reason
        rejected = reasons.total() + counts.not_embedded
        return BatchResult(catalog.rows_in + log.rows_in, rejected, dict(reasons), items.release, words)

    def _work_off_clicks(self, log: Arrivals, plan: BatchPlan) -> tuple[int, int, int]:
        """Write and serve clicks, and return the numbers of clicks, of their users, and of rows written online."""
        if not log.parts:
            return 0, 0, 0
        batches = BehaviorBatches(self.settings, self.items.warehouse)
        touched = batches.write([checked for checked, _ in log.parts], plan)
        try:
            if not touched.clicks:
                return 0, 0, 0
            keys = {name: touched.rows.select(name).distinct() for name in ("user_id", "item_id")}
            served = self._publish(lambda: publish_log_increment(self.spark, self.settings, self.store, keys))
            return touched.clicks, touched.users, served
        finally:
            touched.rows.unpersist()

    def _publish(self, publish: Callable[[], Result]) -> Result:
        """Publish after other publishers: a verification, for example, holds the lease for a while."""
        while True:
            try:
                return publish()
            except LeaseError as error:
                if self.stop.is_set():
                    raise
                _log.warning("%s Trying again.", error)
                self.stop.wait(_AGAIN_SECONDS)

    def _require_same_release(self) -> None:
        promoted, mine = require_promoted_release(self.settings).codebook_version, self.items.codebooks.version
        if promoted != mine:
            raise FollowError(
                f"The promoted release has codebook version {promoted} now, and {mine} when qarm follow started. Nothing of "
                "the last batch was taken up. Run: qarm follow"
            )
