"""Reads and checks the user's catalog and click log.

In: files or tables of the user. Out: ``items``, ``interactions``, ``rejected_rows``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qarm_features.catalog import ingest
from qarm_features.catalog.checks import IngestError, remarks
from qarm_features.catalog.conflicts import duplicate_reason
from qarm_features.catalog.event_times import early_times, require_fitting_unit
from qarm_features.catalog.ingest_columns import local_file_state
from qarm_features.catalog.reading.read_source import open_source
from qarm_features.catalog.reading.source_rows import SourceRows
from qarm_features.catalog.rejections import RowCounts, require_all_lines, require_few_rejected
from qarm_features.catalog.unknown_items import count_unknown_items, require_known_items, user_ids_like_floats
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.states import folder_totals, source_states
from qarm_features.settings.load import Settings
from qarm_features.settings.sources import TextSource
from qarm_features.storage.sql_names import CASE_SENSITIVE, tells_case_apart
from qarm_features.storage.tables import INTERACTIONS, ITEMS, REJECTED_ROWS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def _user_files(settings: Settings) -> dict[str, Any]:
    """Returns the state of the user's sources, and of the folders that hold media files of the catalog."""
    states = source_states(settings.items, settings.interactions, settings=settings)
    if settings.items.image or settings.items.audio:
        folders = [root for root in _media_roots(settings) if "://" not in root]
        states |= {f"media under {root}": folder_totals(settings.path(root)) for root in folders}
    return states


def _media_roots(settings: Settings) -> list[str]:
    return [root.get_secret_value() for root in settings.encoder.media_roots]


@job(
    after="nothing",
    reads=("your catalog and click log",),
    writes=("items", "interactions", "rejected_rows"),
    settings=("items", "interactions", "max_rejected_share", "max_unknown_item_share", "encoder.media_roots"),
    extra_inputs=_user_files,
)
def ingest_catalog(context: JobContext) -> Counts:
    """Checks the catalog and the click log. A row that fails a check is written to rejected_rows with the reason."""
    settings, warehouse = context.settings, context.warehouse

    def read(section: TextSource) -> SourceRows:
        return open_source(context.spark, section, section.path and settings.path(section.path))

    file_state = local_file_state([settings.path(root) for root in _media_roots(settings)])
    catalog, log = read(settings.items), read(settings.interactions)
    _require_one_case(context.spark, settings)
    items = ingest.check_items(catalog.frame, settings.items, file_state=file_state)
    interactions = ingest.check_interactions(log.frame, settings.interactions, item_id_type=settings.items.item_id_type)
    of_items, of_log = items.counts(ITEMS.name), interactions.counts(INTERACTIONS.name)
    require_all_lines(of_items, catalog.lines, settings.items.path)
    require_all_lines(of_log, log.lines, settings.interactions.path)
    rejected = items.rejected.unionByName(interactions.rejected)
    warehouse.overwrite(REJECTED_ROWS, rejected, where="`table` IN ('items', 'interactions')")
    require_fitting_unit(of_log.by_reason, of_log.accepted, log.frame, settings.interactions)
    require_few_rejected([of_items, of_log], settings.max_rejected_share)
    unknown = count_unknown_items(items.accepted, interactions.accepted)
    remedy = require_known_items(unknown, items.accepted, interactions.accepted, settings.max_unknown_item_share)
    warehouse.overwrite(ITEMS, items.accepted)
    warehouse.overwrite(INTERACTIONS, interactions.accepted)
    rows_in, rows_out = of_items.rows_in + of_log.rows_in, of_items.accepted + of_log.accepted
    reasons = [(-n, c.table, reason) for c in (of_items, of_log) for reason, n in c.by_reason.items()]
    listed = ", ".join(f"{-negative:,} {table}: {reason}" for negative, table, reason in sorted(reasons))
    all_remarks = (
        listed and f"rejected_rows: {listed}",
        _contradicted(items, of_items, "item_id", settings.items.duplicates),
        _contradicted(interactions, of_log, "interaction", settings.interactions.duplicates),
        str(unknown),
        remedy,
        *remarks(interactions.accepted, [user_ids_like_floats(), early_times()]),
    )
    return Counts(
        rows_in, rows_out, rows_in - rows_out, "; ".join(remark.rstrip(".") for remark in all_remarks if remark)
    )


def _require_one_case(spark: SparkSession, settings: Settings) -> None:
    """Refuses columns ``A`` and ``a`` of one source beside a table whose files may write its columns in other capitals."""
    tables = [name for name in ("items", "interactions") if getattr(settings, name).table is not None]
    if tables and tells_case_apart(spark) and CASE_SENSITIVE not in settings.spark.conf:
        raise IngestError(
            f"A source has columns whose names differ in nothing but capitals, and {tables[0]} is a table, whose files may "
            "write its columns in other capitals. Rename the columns, or write the table to files. If all capitals are the "
            f"same, set {CASE_SENSITIVE}: true under spark.conf."
        )


def _contradicted(checked: ingest.Checked, counts: RowCounts, key: str, kept: str) -> str:
    """Returns how many keys came with different content, and which content was kept; empty if there are none."""
    if duplicate_reason(key, other_content=True) not in counts.by_reason:
        return ""
    keys = checked.contradicted.count()
    return f"{keys:,} {counts.table} came with different content ({counts.table}.duplicates: {kept})"
