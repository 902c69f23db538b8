"""What ingest writes and records, whether it reads all files or new ones alone.

In: checked rows and their counts. Out: the tables of the catalog, their state, what the next run wants to know, and the
counts and remarks of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import DataFrame

from qarm_features.catalog.checked_source import SOURCE_TABLES, CheckedSource
from qarm_features.catalog.ingest import Checked
from qarm_features.catalog.rejections import RowCounts
from qarm_features.catalog.unknown_items import UnknownItems
from qarm_features.jobs.bases import files_mark, mark
from qarm_features.jobs.counts import Counts
from qarm_features.settings.load import Settings
from qarm_features.storage.tables import DELETED_ITEMS, INTERACTIONS, ITEMS, REJECTED_ROWS, Table
from qarm_features.storage.warehouse import Warehouse


def write_items(warehouse: Warehouse, settings: Settings, checked: Checked) -> None:
    """Writes the whole catalog, and which of its items are deleted."""
    if settings.items.deleted is not None or warehouse.exists(DELETED_ITEMS):
        warehouse.overwrite(DELETED_ITEMS, checked.deleted)
    warehouse.overwrite(ITEMS, checked.accepted)


def ingested_tables(warehouse: Warehouse) -> dict[str, Any]:
    """Returns the state of what ingest writes."""
    parts = {f"rejected rows of {t.name}": files_mark(warehouse, REJECTED_ROWS, "table", t.name) for t in SOURCE_TABLES}
    return {**{table.name: mark(warehouse, table) for table in (*SOURCE_TABLES, DELETED_ITEMS)}, **parts}


def known_item_ids(checked: Checked) -> DataFrame:
    """Returns the IDs of all items of a catalog, with those of deleted ones, of which there may be clicks."""
    return checked.accepted.select("item_id").unionByName(checked.deleted)


def ingest_facts(catalog: CheckedSource, clicks: CheckedSource, unknown: UnknownItems) -> dict[str, Any]:
    """Returns what the next run wants to know of a run over all files."""
    schemas = {ITEMS.name: catalog.raw.schema.json(), INTERACTIONS.name: clicks.raw.schema.json()}
    return {"schemas": schemas, **counted_facts({ITEMS: catalog.counts, INTERACTIONS: clicks.counts}, unknown)}


def counted_facts(counts: Mapping[Table, RowCounts], unknown: UnknownItems) -> dict[str, Any]:
    """Returns the counts of the rows of both sources, for the next run."""
    kept = {table.name: {"accepted": one.accepted, "by_reason": dict(one.by_reason)} for table, one in counts.items()}
    return {"counts": kept, "unknown": unknown.rows}


def counts_of(of_items: RowCounts, of_log: RowCounts, said: Iterable[str]) -> Counts:
    """Returns the counts of a run, with its remarks."""
    rows_in, rows_out = of_items.rows_in + of_log.rows_in, of_items.accepted + of_log.accepted
    remark = "; ".join(remark.rstrip(".") for remark in said if remark)
    return Counts(rows_in, rows_out, rows_in - rows_out, remark)


def rejected_remark(of_items: RowCounts, of_log: RowCounts) -> str:
    """Returns how many rows were rejected for which reason, the most frequent first; empty if none were."""
    reasons = [(-n, c.table, reason) for c in (of_items, of_log) for reason, n in c.by_reason.items()]
    listed = ", ".join(f"{-negative:,} {table}: {reason}" for negative, table, reason in sorted(reasons))
    return listed and f"rejected_rows: {listed}"
