"""Reads and checks the user's catalog and click log.

In: files or tables of the user. Out: ``items``, ``interactions``, ``rejected_rows``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from qarm_features.catalog import ingest
from qarm_features.catalog.checked_source import SOURCE_TABLES, check_source, source_path
from qarm_features.catalog.checks import IngestError, remarks
from qarm_features.catalog.conflicts import duplicate_reason
from qarm_features.catalog.event_times import early_times, require_fitting_unit
from qarm_features.catalog.rejections import RowCounts, require_few_rejected
from qarm_features.catalog.unknown_items import count_unknown_items, require_known_items, user_ids_like_floats
from qarm_features.jobs.bases import Basis, WholeWork, write_basis
from qarm_features.jobs.context import JobContext
from qarm_features.jobs.ingest_new_files import ingest_new_files
from qarm_features.jobs.ingested import (
    counts_of,
    ingest_facts,
    ingested_tables,
    known_item_ids,
    rejected_remark,
    write_items,
)
from qarm_features.jobs.job import Counts, job
from qarm_features.jobs.skipping import inputs
from qarm_features.jobs.states import folder_totals, source_states
from qarm_features.settings.load import Settings
from qarm_features.storage.sql_names import CASE_SENSITIVE, tells_case_apart
from qarm_features.storage.tables import INTERACTIONS, REJECTED_ROWS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


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
    writes=("items", "deleted_items", "interactions", "rejected_rows"),
    settings=("items", "interactions", "max_rejected_share", "max_unknown_item_share", "encoder.media_roots"),
    extra_inputs=_user_files,
)
def ingest_catalog(context: JobContext) -> Counts:
    """Checks the catalog and the click log. A row that fails a check is written to rejected_rows with the reason.

    If files were added to those of the last run and no other has changed, these files alone are read, and their rows are
    added to the tables. Otherwise all files are read again, and the log says why.
    """
    seen = inputs(ingest_catalog, context.settings)
    try:
        return ingest_new_files(context, ingest_catalog.name, seen)
    except WholeWork as reason:
        log.log(reason.level, "ingest-catalog reads all files, because %s", reason)
    counts, facts = _ingest_all(context)
    if inputs(ingest_catalog, context.settings) == seen:  # or else a file may have been read that seen does not name
        write_basis(context.settings, ingest_catalog.name, Basis(seen, ingested_tables(context.warehouse), facts))
    return counts


def _ingest_all(context: JobContext) -> tuple[Counts, dict[str, Any]]:
    """Reads all files, and returns the counts and what the next run wants to know."""
    settings, warehouse = context.settings, context.warehouse
    _require_one_case(context.spark, settings)
    catalog, clicks = (
        check_source(context.spark, settings, table, source_path(settings, table)) for table in SOURCE_TABLES
    )
    items, of_items = catalog.checked, catalog.counts
    interactions, of_log = clicks.checked, clicks.counts
    rejected = items.rejected.unionByName(interactions.rejected)
    warehouse.overwrite(REJECTED_ROWS, rejected, where="`table` IN ('items', 'interactions')")
    require_fitting_unit(of_log.by_reason, of_log.accepted, clicks.raw, settings.interactions)
    require_few_rejected([of_items, of_log], settings.max_rejected_share)
    known = known_item_ids(items)
    unknown = count_unknown_items(known, interactions.accepted)
    remedy = require_known_items(unknown, known, interactions.accepted, settings.max_unknown_item_share)
    write_items(warehouse, settings, items)
    warehouse.overwrite(INTERACTIONS, interactions.accepted)
    all_remarks = (
        rejected_remark(of_items, of_log),
        _contradicted(items, of_items, "item_id", settings.items.duplicates),
        _contradicted(interactions, of_log, "interaction", settings.interactions.duplicates),
        str(unknown),
        remedy,
        *remarks(interactions.accepted, [user_ids_like_floats(), early_times()]),
    )
    return counts_of(of_items, of_log, all_remarks), ingest_facts(catalog, clicks, unknown)


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
